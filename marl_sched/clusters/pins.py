"""The versions that every launch file names; nothing else states them."""

from __future__ import annotations

from marl_sched import __version__

RAY_VERSION = "2.60.0"
"""The Ray of images and clusters: of the minor version that pyproject.toml asks for."""

PYTHON_VERSION = "3.11"
"""Of the images; Ray wants the same minor version on every machine of a cluster."""

BASE_IMAGE = f"rayproject/ray:{RAY_VERSION}-py{PYTHON_VERSION.replace('.', '')}"
IMAGE = f"marl-sched:{__version__}-ray{RAY_VERSION}"
"""What `docker build` of our Dockerfile is tagged with, and what Kubernetes runs."""

REDIS_IMAGE = "redis:7.4-alpine"
"""Keeps the state of a lasting cluster's head."""

KUBERAY_VERSION = "v1.7.0"

CRDS = {
    "RayCluster": (
        "ray.io_rayclusters.yaml",
        933_800,
        "c44704442eef0c6721ad40c1d66782c8bd3fdab9d3344306a5820910a679baa1",
    ),
    "RayJob": (
        "ray.io_rayjobs.yaml",
        1_390_040,
        "01a5cf3b17c1769fda44af7e82debcd98722f0c27b9ab84d084681c6649121f5",
    ),
}
"""Kind -> file, bytes and SHA-256 of its definition in that version of KubeRay."""

CRD_FOLDER = "ray-operator/config/crd/bases"
"""Where KubeRay's repository keeps them."""

"""`python -m marl_sched` is the `marl-sched` program."""

from marl_sched.cli import main

if __name__ == "__main__":
    main()

"""Lets `python -m suite` (and `accelerate launch -m suite`) be the `suite` command."""

from suite.cli.main import main

if __name__ == "__main__":
    main(prog_name="suite")

"""``fedlens review``: serve the console, keep its people, and prove its trail."""

from fedlens.cli.review.app import review
from fedlens.cli.review.people import token, user
from fedlens.cli.review.serve import card, serve
from fedlens.cli.review.trail import anchor, export, key, prune, verify

for command in (serve, verify, export, anchor, prune, key, card):
    review.command()(command)
review.add_typer(user, name="user")
review.add_typer(token, name="token")

__all__ = ["review"]

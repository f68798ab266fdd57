"""Attacks: what an adversary can learn, and how much privacy they show to have been lost."""

"""What the console keeps: cases, a signed trail of what people did, and who they are."""

from fedlens.review.store.database import StoreError
from fedlens.review.store.signing import PublicKey, ReviewKey
from fedlens.review.store.store import Store, default_url, open_store
from fedlens.review.store.switch import Stopped

__all__ = [
    "PublicKey",
    "ReviewKey",
    "Stopped",
    "Store",
    "StoreError",
    "default_url",
    "open_store",
]

from tests.serving.served import champion
from tests.serving.variants import looked_at, released, released_once

__all__ = ["champion", "looked_at", "released", "released_once"]

from tests.serving.variants import looked_at, released, released_once

__all__ = ["looked_at", "released", "released_once"]

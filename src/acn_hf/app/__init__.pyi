from .space import (
    write_space as write_space,
)
from .space_upload import (
    Pushed as Pushed,
    push_with_space as push_with_space,
)

from .answers import (
    Answer as Answer,
    Question as Question,
    answer_at_every_depth as answer_at_every_depth,
)
from .checkpoint import (
    Checkpoint as Checkpoint,
    load_checkpoint as load_checkpoint,
)
from .layout import (
    build_app as build_app,
)
from .space import (
    write_space as write_space,
)
from .space_upload import (
    Pushed as Pushed,
    push_with_space as push_with_space,
)

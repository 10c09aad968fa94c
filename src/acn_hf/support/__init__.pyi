from .eval_mode import (
    evaluating as evaluating,
    fixed_randomness as fixed_randomness,
)
from .provenance import (
    circumstances as circumstances,
    commit_of as commit_of,
)
from .records import (
    Record as Record,
    render as render,
    write_text as write_text,
)
from .stopping import (
    on_stop as on_stop,
    stopped as stopped,
)
from .wrappers import (
    is_peft_model as is_peft_model,
    unwrap as unwrap,
    unwrap_acn as unwrap_acn,
    unwrap_parallel as unwrap_parallel,
)

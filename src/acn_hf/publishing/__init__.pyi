from .checkpoints import (
    convert_checkpoint as convert_checkpoint,
    processor_beside as processor_beside,
    push_checkpoint as push_checkpoint,
)
from .compressed import (
    CompressionFacts as CompressionFacts,
    TestValues as TestValues,
)
from .facts import (
    CardFacts as CardFacts,
    collect as collect,
)
from .hub import (
    prepare_repo as prepare_repo,
    push_files as push_files,
    upload as upload,
)
from .model_card import (
    CardTrainer as CardTrainer,
    write_into as write_into,
    write_model_card as write_model_card,
)
from .render import (
    render_model_card as render_model_card,
)

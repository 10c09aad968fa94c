from .arguments import (
    DepthArguments as DepthArguments,
    FileArguments as FileArguments,
    Help as Help,
    ImageDataArguments as ImageDataArguments,
    ModelArguments as ModelArguments,
    RecipeArguments as RecipeArguments,
    TextDataArguments as TextDataArguments,
    parse_arguments as parse_arguments,
)
from .labelled_data import (
    load_labelled as load_labelled,
    needed as needed,
)
from .models import (
    build_model as build_model,
    label_fields as label_fields,
    tokenizer_source as tokenizer_source,
    vocabulary_fields as vocabulary_fields,
)
from .run_tables import (
    Network as Network,
    depth_table as depth_table,
    find_networks as find_networks,
)
from .training_run import (
    run as run,
    run_labelled as run_labelled,
    run_script as run_script,
    start as start,
)

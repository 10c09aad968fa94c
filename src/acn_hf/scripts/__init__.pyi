from .arguments import (
    DepthArguments as DepthArguments,
    Help as Help,
    ModelArguments as ModelArguments,
    RecipeArguments as RecipeArguments,
    parse_arguments as parse_arguments,
)
from .data_arguments import (
    DataArguments as DataArguments,
    FileArguments as FileArguments,
    ImageDataArguments as ImageDataArguments,
    TextDataArguments as TextDataArguments,
)
from .labelled_data import (
    load_labelled as load_labelled,
    needed as needed,
    only_complete as only_complete,
    prepare_splits as prepare_splits,
)
from .models import (
    build_model as build_model,
    fitting_initializer_range as fitting_initializer_range,
    label_fields as label_fields,
    tokenizer_source as tokenizer_source,
    vocabulary_fields as vocabulary_fields,
)
from .run_tables import (
    Network as Network,
    depth_table as depth_table,
    find_networks as find_networks,
    record_of_runs as record_of_runs,
)
from .training_run import (
    run as run,
    run_labelled as run_labelled,
    run_script as run_script,
    start as start,
)

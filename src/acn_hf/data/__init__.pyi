from .checks import (
    CutTexts as CutTexts,
    Incomplete as Incomplete,
    complete_rows as complete_rows,
    cut_texts as cut_texts,
    require_inputs as require_inputs,
    shared_rows as shared_rows,
    untaught_labels as untaught_labels,
)
from .choices import choice_rows as choice_rows
from .files import (
    check_options as check_options,
    load_data as load_data,
    load_splits as load_splits,
    not_empty as not_empty,
    reader_options as reader_options,
)
from .heads import (
    load_for_task as load_for_task,
)
from .idx import (
    DataError as DataError,
    read_idx as read_idx,
    read_idx_folder as read_idx_folder,
)
from .labels import (
    find_classes as find_classes,
    label_ids as label_ids,
    require as require,
)
from .masking import (
    EpochOfMasks as EpochOfMasks,
    MaskingCollator as MaskingCollator,
    PatchMaskingCollator as PatchMaskingCollator,
    mask_images_once as mask_images_once,
    mask_once as mask_once,
    pack as pack,
)
from .pixels import (
    image_fields as image_fields,
    image_size as image_size,
    num_patches as num_patches,
)
from .places import (
    ColumnError as ColumnError,
    named as named,
    place_of as place_of,
)
from .questions import question_rows as question_rows
from .rows import (
    Columns as Columns,
    check_vocabulary as check_vocabulary,
    image_processor as image_processor,
    is_regression as is_regression,
    load_processor as load_processor,
    load_tokenizer as load_tokenizer,
    longest_text as longest_text,
    prepare as prepare,
    require_text as require_text,
)
from .several_labels import (
    find_several_classes as find_several_classes,
)
from .tasks import (
    TASKS as TASKS,
    Task as Task,
    find_task as find_task,
    reads_labels as reads_labels,
    usual_metric as usual_metric,
)
from .word_pieces import (
    train_tokenizer as train_tokenizer,
)

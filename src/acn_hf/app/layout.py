"""The page of the app: what is typed or dropped, examples, and beside each other what the checkpoints answer."""

import base64
import functools
import inspect
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image

from ..report.record import ReportRecord
from ..report.rows import PARTS
from .answers import Question, RefusedQuestionError, answer_at_every_depth
from .checkpoint import SIMILARITY, TAGS, Checkpoint, check_number, load_checkpoints
from .pictures import open_picture
from .times import Stopwatch
from .view import script, show_answers, show_refusal, show_title, show_waiting, style

NEEDS = "the app needs gradio: pip install 'acn-hf[app]'"
MOST_EXAMPLES = 12
NARROWEST = 280
"""Pixels of a column; on a narrow window they stand below each other."""
LARGEST_FILE = "20mb"
FORGETS = 600, 3600
"""Seconds: every so often pictures are deleted that were dropped so long ago; all are when the app ends."""
FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
"""Those of the system: none is fetched."""


def gradio_package() -> Any:
    """Return gradio.

    Raises:
        ImportError: It is missing.
    """
    try:
        import gradio
    except ImportError as error:
        raise ImportError(NEEDS) from error
    return gradio


def build_app(
    sources: Sequence[str | os.PathLike],
    *,
    title: str | None = None,
    examples: bool = True,
    exits: str | os.PathLike | None = None,
    concurrency: int = 2,
    device: str = "cpu",
) -> Any:
    """Build the app in which one checkpoint, or two side by side, answer at every depth.

    What is returned is launched as gradio's own: `launch()` listens on 127.0.0.1 alone unless it is told otherwise, and
    on a Space of the Hub where a Space does. Nothing is fetched from elsewhere, and nothing is reported to anyone.

    Args:
        sources (sequence of `str` or `os.PathLike`): One or two folders or names on the Hub. Each holds an ACN, or any
            model of transformers with one stack of layers, that classifies texts, pictures or words or predicts
            numbers; or a `SentenceTransformer`.
        title (`str`, *optional*): Heading of the page. Defaults to the names of the checkpoints, at every depth.
        examples (`bool`, *optional*, defaults to `True`): Whether the examples are offered that `report.json` beside a
            checkpoint holds, which are rows of the data.
        exits (`str` or `os.PathLike`, *optional*): JSON file of an [`ExitCalibration`] or an [`EarlyExitReport`], whose
            policy says where the first checkpoint would leave. Defaults to `exits.json` beside it, if it is there.
        concurrency (`int`, *optional*, defaults to 2): How many people are answered at a time; others wait.
        device (`str`, *optional*, defaults to `"cpu"`): Where the models answer.

    Returns:
        `gradio.Blocks`

    Raises:
        DataError: No tokenizer or image processor lies beside a checkpoint.
        DepthError: The layers of a model are not a plain stack, or the policy names a depth that it does not have.
        ImportError: gradio is missing, or sentence-transformers for a `SentenceTransformer`.
        OSError: There is no checkpoint, or no file of the policy.
        TypeError: The policy does not fit the head.
        UnsupportedError: The app has no answer of a head, or two checkpoints do not read the same.
        ValueError: There are none or more than two checkpoints, `concurrency` is below 1, or a file is damaged.

    Example:

    ```python
    >>> from acn_hf.app import build_app

    >>> build_app([])
    Traceback (most recent call last):
    ValueError: an app is of a list of one or two checkpoints; got 0

    ```
    """
    check_number(sources)
    gradio = gradio_package()
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(f"concurrency must be a whole number >= 1; got {concurrency!r}")
    checkpoints = load_checkpoints(sources, exits=exits, device=device)
    heading = title or f"{' and '.join(one.name for one in checkpoints)} at every depth"
    with gradio.Blocks(title=heading, analytics_enabled=False, delete_cache=FORGETS) as blocks:
        gradio.HTML(show_title(heading, _lead(checkpoints)))
        with gradio.Row() if len(checkpoints) == 1 else gradio.Column():
            with gradio.Column(scale=2, min_width=NARROWEST):
                asked = _picture_input(gradio) if checkpoints[0].reads_pictures else _text_inputs(gradio, checkpoints)
                button = gradio.Button("Answer at every depth", variant="primary")
                offered = _examples(gradio, checkpoints, asked) if examples else None
            with gradio.Column(scale=3, min_width=NARROWEST):
                notice = gradio.HTML("", elem_id="notice", visible=False)
                with gradio.Row():
                    cards = [_card(gradio, one) for one in checkpoints]
        answering = {
            "fn": _respond(checkpoints),
            "inputs": asked,
            "outputs": [asked[0], notice, *cards],
            "preprocess": False,  # which opens pictures itself, and says less of what is none
            "api_visibility": "private",
            "show_progress": "minimal",
            "show_progress_on": cards,
            "concurrency_limit": concurrency,
            "concurrency_id": "answers",
        }
        gradio.on([button.click, asked[0].upload if checkpoints[0].reads_pictures else asked[0].submit], **answering)
        if offered is not None:
            offered.load_input_event.then(**answering)
    blocks.queue(api_open=False, default_concurrency_limit=concurrency)
    blocks.launch = functools.partial(blocks.launch, **_launched(gradio, blocks))
    return blocks


def _launched(gradio: Any, blocks: Any) -> dict[str, Any]:
    """Return how an app is launched unless somebody says otherwise: gradio 6 asks for its looks only then."""
    options = {
        "theme": _theme(gradio),
        "css": style(),
        "js": script(),
        "footer_links": ["gradio"],
        "max_file_size": LARGEST_FILE,
        "show_error": True,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "run_history": False,
        "enable_monitoring": False,
    }
    known = inspect.signature(blocks.launch).parameters
    return {name: value for name, value in options.items() if name in known}


def _theme(gradio: Any) -> Any:
    """Return the colours of the page; those of gradio's buttons and hints are too pale to be read by everybody."""
    font, font_mono = map(list, FONTS)
    theme = gradio.themes.Default(primary_hue="blue", font=font, font_mono=font_mono)
    readable = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}
    for state in ("", "_hover"):
        for scheme in ("", "_dark"):
            readable[f"button_primary_background_fill{state}{scheme}"] = "*primary_800" if state else "*primary_700"
    return theme.set(**readable)


def _lead(checkpoints: Sequence[Checkpoint]) -> str:
    asks = {one.asks for one in checkpoints}
    what = asks.pop() if len(asks) == 1 else "Type a text"
    both = "both models" if len(checkpoints) > 1 else "the model"
    return f"{what}, and see what {both} would answer with fewer layers, how sure each depth is, and how long it takes."


def _text_inputs(gradio: Any, checkpoints: Sequence[Checkpoint]) -> list[Any]:
    """Return the places for a text and, where a model may read two, for a second one."""
    text = gradio.Textbox(label="Text", lines=3, max_lines=12, info="Shift+Enter answers too.", elem_id="text")
    kinds = {one.kind for one in checkpoints}
    if kinds == {TAGS}:
        return [text]
    if SIMILARITY in kinds:
        return [text, gradio.Textbox(label="Second text", lines=3, max_lines=12, elem_id="second")]
    with gradio.Accordion("Second text, for a model of pairs", open=False):
        second = gradio.Textbox(label="Second text", lines=2, max_lines=12, elem_id="second")
    return [text, second]


def _picture_input(gradio: Any) -> list[Any]:
    return [
        gradio.Image(label="Picture", type="filepath", sources=["upload", "clipboard"], height=280, elem_id="picture")
    ]


def _card(gradio: Any, checkpoint: Checkpoint) -> Any:
    with gradio.Column(min_width=NARROWEST):
        return gradio.HTML(show_waiting(checkpoint))


def _respond(checkpoints: Sequence[Checkpoint]) -> Callable[..., Iterator[list[Any]]]:
    """Return what answers: at once without times, and once more when they are measured."""
    gradio = gradio_package()
    stopwatch = Stopwatch(checkpoints)
    waiting = [show_waiting(one) for one in checkpoints]
    kept, hidden = gradio.update(), gradio.update(value="", visible=False)
    emptied = gradio.update(value=None) if checkpoints[0].reads_pictures else kept

    def respond(*given: Any) -> Iterator[list[Any]]:
        try:
            question = _question(checkpoints[0], given)
            answers = [answer_at_every_depth(one, question) for one in checkpoints]
        except RefusedQuestionError as refusal:
            yield [emptied, gradio.update(value=show_refusal(str(refusal)), visible=True), *waiting]
            return
        yield [kept, hidden, *show_answers(checkpoints, answers)]
        yield [kept, hidden, *show_answers(checkpoints, answers, stopwatch([answer.inputs for answer in answers]))]

    return respond


def _question(checkpoint: Checkpoint, given: Sequence[Any]) -> Question:
    """Return what is asked, as the page sent it."""
    if checkpoint.reads_pictures:
        path = given[0].get("path") if isinstance(given[0], dict) else None
        return Question(picture=None if path is None else open_picture(path))
    text, second = (part if isinstance(part, str) else "" for part in (*given, "")[:2])
    return Question(text, second)


def _examples(gradio: Any, checkpoints: Sequence[Checkpoint], asked: Sequence[Any]) -> Any:
    """Return the examples of the first checkpoint that has some, or `None`."""
    for one in checkpoints:
        rows = [] if one.record is None else _rows(one.record, one.reads_pictures, len(asked))
        if rows:
            label = f"Examples of the data of {one.name}"
            return gradio.Examples(rows, list(asked), label=label, examples_per_page=6, cache_examples=False)
    return None


def _rows(record: ReportRecord, are_pictures: bool, columns: int) -> list[list[Any]]:
    """Return what some examples fill in: first those of which the chosen depth loses or gains the answer."""
    known = record.examples
    if known is None:
        return []
    depth = record.figures.depth
    lists = [changed.shown for part in (known.lost, known.gained) if (changed := part.get(depth)) is not None]
    half = MOST_EXAMPLES // 2
    places = [place for shown in lists for place in shown[:half]]
    places = list(dict.fromkeys([*places, *range(len(known.examples))]))
    rows: list[list[Any]] = []
    for place in places:
        example = known.examples[place]
        if are_pictures and example.picture is not None:
            rows.append([_picture_of(example.picture)])
        elif not are_pictures and example.text is not None:
            text, _, second = example.text.partition(PARTS)
            rows.append([text, second][:columns])
    return rows[:MOST_EXAMPLES]


def _picture_of(address: str) -> Image.Image:
    """Return the picture that an address holds."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))

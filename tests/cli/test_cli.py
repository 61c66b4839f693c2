"""The command line, in this process and as a program in a pipe."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import gradient
from gradient import hub, nn
from gradient.backends import process
from gradient.cli import main
from gradient.cli.app import COMMANDS, app
from gradient.cli.doctor import PACKAGES
from gradient.cli.output import byte_size
from gradient.cli.sampling import flag_names
from gradient.cli.slowness import slowness
from gradient.cli.turns import valid_unicode
from gradient.generation.declared import declared
from gradient.generation.options import Options
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.training import TrainConfig
from gradient.training.reporters import visible
from support.paths import CHECKOUT

NANO = shlex.split(
    "--n-layer 1 --n-head 2 --n-embd 32 --block-size 32 --batch-size 4 --vocab-size 300 "
    "--steps 20 --eval-every 10 --eval-batches 2 --log-every 5 --sample-tokens 8 --no-tensorboard"
)


def run(*arguments: object, **options: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def program(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradient", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def terminal(*arguments: object, columns: str = "100") -> tuple[int, str]:
    """The exit code and the output of the program on a terminal of so many columns."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gradient", *map(str, arguments)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    environment = os.environ | {"COLUMNS": columns, "TERM": "xterm-256color"}
    with subprocess.Popen(command, env=environment, **streams) as process:
        os.close(theirs)
        output = b""
        # Linux ends the reading of a terminal that nobody has open by an error.
        with open(ours, "rb", buffering=0) as screen, contextlib.suppress(OSError):
            while piece := screen.read(4096):
                output += piece
    return process.returncode, output.decode()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.py"
    path.write_text("".join(f"def add_{n}(number):\n    return {n}\n\n\n" for n in range(400)))
    return path


@pytest.fixture(scope="module")
def model(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained by the command itself."""
    out = tmp_path_factory.mktemp("run") / "out"
    result = run("train", text, "--out", out, *NANO)
    assert result.exit_code == 0, result.output
    return out / "model"


# All commands ------------------------------------------------------------------------------------


def test_version():
    result = run("--version")
    assert result.exit_code == 0 and result.output == f"gradient {gradient.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.output and "--debug" in result.output


def test_help_is_broken_at_the_width_of_the_screen():
    """Not where the docstring's lines end, too."""
    with_few_columns = run("bench", "--help", env={"COLUMNS": "60", "TERMINAL_WIDTH": "60"}).output
    lines = [line.strip() for line in with_few_columns.splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("Each figure"))
    paragraph = lines[first : lines.index("", first)]
    assert len(paragraph) > 2
    assert all(len(line) > 40 for line in paragraph[:-1]), paragraph


def test_help_is_cheap():
    code = (
        "import sys\nfrom gradient.cli import main\nsys.argv = ['gradient', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "late = 'numba tokenizers safetensors huggingface_hub torch matplotlib'.split()\n"
        "sys.exit(' '.join(name for name in late if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_usage_is_code_2():
    for arguments in (["nonsense"], ["generate", "--temperature", "-1", "x"], ["info", "--what"]):
        done = program(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "{text}", "--out", ""),
        ("train", ""),
        ("eval", "tinyworld", ""),
        ("convert", "tinyworld", ""),
        ("quantize", "tinyworld", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*(argument.format(text=text) for argument in arguments))
    assert result.exit_code == 2 and "is empty; expected a path" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "x", "--model", "{tmp}/nowhere"),
        ("info", "{tmp}/nowhere"),
        ("info", "{tmp}"),
        ("train", "{tmp}/nowhere"),
        ("train", "--steps", "0"),
        ("train", "--size", "huge"),
        ("train", "--resume", "--out", "{tmp}/nowhere"),
        ("train", "{text}", "--out", "{text}"),
        ("train", "{text}", "--out", "{tmp}/run", "--device", "abacus"),
        ("train", "{text}", "--out", "{tmp}/run", "--tokenizer", "{tmp}"),
        ("check", "no_such_op"),
        ("check", "--device", "abacus"),
        ("plugin", "check", "/no/such/plugin"),
        ("plugin", "check", " "),
        ("plugin", "check", "cat", "--timeout", "-1"),
        ("plugin", "check", "cat", "--timeout", "nan"),
        ("plugin", "mend", "python"),
        ("train", "{text}", "--out", "{tmp}/run", "--batch-size", 10**11),
        ("train", "{text}", "--out", "{tmp}/run", "--accumulate", 10**13),
        ("train", "{text}", "--out", "{tmp}/run", "--n-layer", 10**9),
        ("train", "{text}", "--out", "{tmp}/run", "--vocab-size", 10**11),
        ("train", "{text}", "--out", "{tmp}/run", "--lr", "inf"),
        ("train", "{text}", "--out", "{tmp}/run", "--weight-decay", "inf"),
        ("train", "{text}", "--out", "{tmp}/run", "--seed", 2**64),
    ],
)
def test_errors_are_a_message_and_code_1(arguments, text, tmp_path):
    arguments = [str(argument).format(tmp=tmp_path, text=text) for argument in arguments]
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and result.stderr.startswith("error: ")
    as_json = run(*arguments, "--json")
    assert as_json.exit_code == 1 and as_json.stderr == ""
    message = json.loads(as_json.stdout)["error"]["message"]
    assert _without_free_memory(result.stderr) == _without_free_memory(f"error: {message}\n")


def _without_free_memory(text):
    """What is free may change between two runs."""
    return re.sub(r"[\d.,]+ GiB are free", "? GiB are free", text)


def test_an_error_of_the_program_has_no_traceback(tmp_path):
    done = program("info", tmp_path / "nowhere")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: model '") and "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = program("info", tmp_path / "nowhere", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "ModelNotFound" in done.stderr


def test_a_defect_is_told_apart_from_a_user_error(monkeypatch):
    monkeypatch.setattr("gradient.cli.doctor.examine", lambda: 1 / 0)
    result = run("doctor")
    assert result.exit_code == 1
    assert "ZeroDivisionError: division by zero\nThis is a defect in gradient" in result.output


@pytest.mark.parametrize(
    ("count", "shown"), [(12, "12 bytes"), (4718592, "4.5 MiB"), (2**42, "4096.0 GiB")]
)
def test_byte_size(count, shown):
    assert byte_size(count) == shown


# generate and chat -------------------------------------------------------------------------------


def test_generate_streams_plain_text_into_a_pipe(model):
    options = ("--model", model, "-n", "12", "--seed", "1")
    first = program("generate", "def add", *options)  # says it if it compiles kernels
    done = program("generate", "def add", *options)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("def add") and "\x1b" not in done.stdout
    assert first.stdout == done.stdout
    alone = program("generate", "def add", "--no-echo", *options)
    assert "def add" + alone.stdout == done.stdout


@pytest.mark.skipif(not hub.embedded_models(), reason="built without its model")
def test_generate_with_the_model_that_comes_along(tmp_path):
    alone = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = program("generate", "Once upon a time", "--seed", "1", env=alone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time") and len(done.stdout) > 200


def test_generate_reads_standard_input(model):
    options = ("--model", model, "-n", "12", "--temperature", "0")
    piped = program("generate", *options, input="def add\n")
    assert piped.stdout == program("generate", "def add", *options).stdout


def test_generate_json(model):
    result = run("generate", "def", "-m", model, "-n", 5, "--seed", 3, "--logprobs", 2, "--json")
    document = json.loads(result.stdout)
    assert document["prompt"] == "def" and len(document["token_ids"]) == 5
    assert document["finish_reason"] == "length" and len(document["logprobs"]) == 5
    assert document["seed"] == 3


def test_generate_json_says_which_seed_was_drawn(model):
    options = ("generate", "def", "-m", model, "-n", 20, "-t", 1.5, "--json")
    first, second = (json.loads(run(*options).stdout) for _ in "12")
    assert first["seed"] != second["seed"]
    again = json.loads(run(*options, "--seed", first["seed"]).stdout)
    assert again["token_ids"] == first["token_ids"]


def test_generate_says_what_is_wrong_before_it_prints(model):
    result = run("generate", "def", "-m", model, "--repetition-penalty", "0")
    assert result.exit_code == 2 and result.stdout == ""
    assert "--repetition-penalty" in result.stderr and "must be a positive" in result.stderr
    result = run("generate", "def", "-m", model, "--beams", 2, "-t", 1)
    assert result.exit_code == 1 and result.stdout == ""
    assert "--beams 2 searches for the likeliest text" in result.stderr


class Slow:
    """A model whose kernels are compiled before its text begins."""

    tokenizer = recommended = None

    def stream(self, prompt, **options):
        print("compiling", file=sys.stderr, flush=True)
        yield ""  # a token that is no whole character yet
        print("compiling", file=sys.stderr, flush=True)
        yield from ([" upon", " a time"] if options["max_new_tokens"] else [])


def test_generate_shows_the_prompt_after_what_is_said_of_compilation(monkeypatch):
    """A line about it goes again on a terminal, and would take along what stands in front of it."""
    monkeypatch.setattr("gradient.cli.generate.load_language_model", lambda *_, **__: Slow())
    monkeypatch.setattr("gradient.cli.sampling.with_defaults", lambda given, _: given)
    notes = "compiling\n" * 2
    assert run("generate", "Once", "-n", 9).output == f"{notes}Once upon a time\n"
    assert run("generate", "Once", "-n", 9, "--no-echo").output == f"{notes} upon a time\n"
    assert run("generate", "Once", "-n", 0).output == f"{notes}Once\n"


def test_every_option_of_generation_is_a_flag_or_for_programs_alone():
    """`generate` and `chat` take theirs from the one list of options."""
    options = declared(Options)
    without = {name for name, option in options.items() if option.flag is None}
    assert without == {
        "bad_words_ids", "compile", "early_stopping", "logits_processors", "max_draft_tokens",
        "prefill_chunk", "prompt_cache", "use_cache",
    }  # fmt: skip
    flags = {flag_names(name)[0] for name in options.keys() - without}
    own = {"--cache", "--logprobs", "--beams"}
    generate, chat = (run(name, "--help").output for name in ("generate", "chat"))
    assert [flag for flag in flags if flag not in generate] == []
    assert {flag for flag in own if f"{flag} " in generate} == own
    assert {flag for flag in own if f"{flag} " in chat} == set()
    assert "--min-p" in chat and "--regex" in chat


def test_generate_stops_at_a_string(model):
    result = run("generate", "def", "-m", model, "-n", 25, "-t", 0, "--stop", "\n", "--no-echo")
    assert result.exit_code == 0 and result.output.count("\n") == 1


def test_generate_with_beams(model):
    options = ("-m", model, "-n", 6, "--beams", 3, "--num-return-sequences", 2, "--json")
    document = json.loads(run("generate", "def", *options).stdout)
    first, second = document["continuations"]
    assert first["score"] >= second["score"] and first["text"] != second["text"]


def test_generate_text_of_a_form(model, tmp_path):
    pytest.importorskip("llguidance")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}')
    result = run("generate", "x", "-m", model, "--json-schema", schema, "--no-echo", "--seed", 1)
    assert json.loads(result.stdout) in ([1, 1], [1, 2], [2, 1], [2, 2])
    itself = ("--json-schema", schema.read_text(), "--no-echo", "--seed", 1)
    assert run("generate", "x", "-m", model, *itself).output == result.output
    result = run("generate", "x", "-m", model, "--choice", "red", "--choice", "blue", "--no-echo")
    assert result.output.strip() in ("red", "blue")
    grammar = tmp_path / "grammar.lark"
    grammar.write_text('start: "a" "b"~2')
    result = run("generate", "x", "-m", model, "--grammar", grammar, "--no-echo")
    assert result.output == "abb\n"
    result = run(
        "generate", "x", "-m", model, "--regex", "[0-9]{3}", "--no-echo", "--cache", "paged"
    )
    assert len(result.output) == 4 and result.output.strip().isdigit()


def test_generate_with_drafts_is_the_same(model):
    options = ("def def def", "-m", model, "-n", 20, "-t", 0, "--dtype", "float32")
    plain = run("generate", *options).output
    assert run("generate", *options, "--draft", "prompt_lookup").output == plain
    assert run("generate", *options, "--draft", model).output == plain


def test_generate_biases_and_penalties(model):
    options = ("-m", model, "-n", 5, "-t", 0, "--json")
    plain = json.loads(run("generate", "def", *options).stdout)["token_ids"]
    biased = json.loads(
        run("generate", "def", *options, "--logit-bias", f"{plain[0]}=-inf").output
    )["token_ids"]
    assert biased[0] != plain[0]
    distinct = run("generate", "def", *options, "--presence-penalty", "1e4").output
    assert len(set(json.loads(distinct)["token_ids"])) == 5
    wrong = run("generate", "def", *options, "--logit-bias", "five")
    assert wrong.exit_code == 2 and "expected ID=VALUE" in wrong.stderr


def test_generate_takes_the_models_own_sampling_options():
    from gradient.cli.sampling import with_defaults

    own = {"temperature": 0.6, "top_k": 20}
    assert with_defaults({"seed": 1}, own) == {**own, "seed": 1}
    assert with_defaults({"top_k": 5}, own) == {"temperature": 0.6, "top_k": 5}
    assert with_defaults({"temperature": 0.0}, own) == {"temperature": 0.0}
    assert with_defaults({"num_beams": 2}, own) == {"num_beams": 2, "temperature": 0.0}
    assert with_defaults({}, {"repetition_penalty": 1.2}) == {
        "temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.2,
    }  # fmt: skip


def test_generate_into_a_reader_that_leaves(model):
    command = [sys.executable, "-m", "gradient", "generate", "def", "-m", str(model), "-n", "30"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdout.read(3)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_generate_on_a_terminal_tells_the_prompt_apart(model):
    code, output = terminal("generate", "def add", "-m", model, "-n", 8)
    assert code == 0 and output.startswith("\x1b[1mdef add\x1b[0m")


def test_verbose_says_speed_and_reason_on_standard_error(model):
    for more in ((), ("--json",)):
        options = ("-m", model, "-n", 8, "--ignore-eos", "--verbose", *more)
        done = program("generate", "def add", *options)
        assert done.returncode == 0, done.stderr
        assert " generated, " in done.stderr and " tokens/s; " in done.stderr
        assert "tokens/s" not in done.stdout or more


def test_a_model_cannot_send_escape_sequences_to_a_terminal():
    assert visible("a\x1b[2J\tb\n\x9b1m\x7f") == "a\u241b[2J\tb\n\ufffd1m\ufffd"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a\udcc3\udca9b", "a\u00e9b"),  # UTF-8 that a locale of ASCII took for other bytes
        ("a\udcff\ud800\udfffb", "a\ufffd\ufffd\ufffdb"),
        ("", ""),
    ],
)
def test_a_prompt_is_valid_unicode(text, read):
    assert valid_unicode(text) == read


def test_an_error_that_standard_output_cannot_take_is_told():
    """And only that: what is left in a buffer does not fail once more at exit."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gradient", "info", "nowhere", "--json"], env=buffered,
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("error: model 'nowhere' not found")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", ["chat", "generate"])
def test_bytes_that_are_no_utf8_are_replaced(model, command):
    """The lines after them are answered, too."""
    done = subprocess.run(
        [sys.executable, "-m", "gradient", command, "-m", model, "-n", "4", "--json"],
        input=b"a\xff\xfeb\nagain\n", capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.decode().splitlines()) >= (2 if command == "chat" else 1)


def test_chat_answers_each_line_of_a_pipe(model):
    done = program(
        "chat", "-m", model, "-n", "4", "--json", input="hi\n\n/reset\nagain\n/exit\nno\n"
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["role"] for answer in answers] == ["assistant", "assistant"]


def test_chat_says_how_a_turn_longer_than_the_context_is_taken(model):
    """By a flag that chat has."""
    done = program("chat", "-m", "tinyworld", "-n", "2", input="a b " * 400)
    assert done.returncode == 1 and done.stderr.endswith("or set --beyond-context\n")
    taken = program("chat", "-m", "tinyworld", "-n", "2", "--beyond-context", input="a b " * 400)
    assert taken.returncode == 0 and len(taken.stdout) > 1


def test_help_of_chat_in_a_pipe_names_no_keys(model):
    done = program("chat", "-m", model, input="/help\n")
    assert done.returncode == 0 and "/system TEXT" in done.stderr
    assert "Ctrl" not in done.stderr and '"""' not in done.stderr


# info and diff -----------------------------------------------------------------------------------


def test_info_lists_tensors(model):
    listed = json.loads(run("info", model, "--tensors", "--json").stdout)["tensors"]
    named = {each["name"]: each for each in listed}
    assert named["transformer.wte.weight"]["shape"] == [300, 32]
    assert "transformer.wte.weight" in run("info", model, "--tensors").output
    assert "tensors" not in json.loads(run("info", model, "--json").stdout)


def test_info_of_a_gguf_file_shows_its_metadata(model, tmp_path):
    path = tmp_path / "model.gguf"
    assert run("convert", model, path).exit_code == 0
    metadata = json.loads(run("info", path, "--json").stdout)["metadata"]
    assert metadata["general.architecture"] == "gpt2"
    assert metadata["tokenizer.ggml.tokens"].startswith("array of ")


def test_errors_have_the_names_of_flags():
    from gradient.cli.errors import by_flags
    from gradient.cli.generate import generate

    result = run("generate", "--beams", "2", "-t", "1", "hi")
    assert "--beams 2 searches" in result.output and "num_beams" not in result.output
    said = "num_return_sequences=2 needs max_new_tokens; draft stays, x.max_new_tokens too"
    expected = "--num-return-sequences 2 needs --max-new-tokens; draft stays, x.max_new_tokens too"
    assert by_flags(said, generate) == expected
    said = "or set beyond_context=True; beyond_context=Truer"
    assert by_flags(said, generate) == "or set --beyond-context; --beyond-context Truer"


def test_memory_that_cannot_be_had_is_no_defect():
    result = run("memory", "tinyworld", "--context", 10**13)
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("error: zeros: no memory left on cpu: 1,788,139.3 GiB")
    found = json.loads(run("memory", "tinyworld", "--context", 10**13, "--json").stdout)
    assert found["error"]["message"].startswith("zeros: no memory left on cpu")


@pytest.mark.parametrize("name", ["generate", "train", "info"])
def test_help_names_no_type_of_a_flag(name):
    shown = run(name, "--help").output
    assert "bool" not in shown.lower() and "--json" in shown


def test_help_of_options_names_flags_and_not_python_arguments():
    shown = " ".join(run("generate", "--help").output.replace("│", " ").split())
    for name in ("json_schema", "num_beams", "xtc_threshold", "in Python", "SpeculativeDecoder"):
        assert name not in shown
    assert "Only one of --json-schema, --regex, --choice and --grammar can be given" in shown
    assert "needs --beams, or a temperature above 0" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_value_of_python_alone(name):
    assert re.findall(r"\b(None|True|False)\b", run(name, "--help").output) == []


@pytest.mark.parametrize("flag", ["--logprobs", "--num-return-sequences"])
def test_a_flag_that_needs_json_is_named_alone(flag):
    result = run("generate", "Once", flag, 2)
    assert result.exit_code == 2 and "needs --json" in result.output
    assert re.findall("--(?:logprobs|num-return-sequences)", result.output) == [flag]


def test_info_knows_what_save_wrote_under_any_ending(tmp_path):
    gradient.save({"model": {"w": gradient.ones(2, 3)}, "step": 3}, tmp_path / "c.pt")
    found = json.loads(run("info", tmp_path / "c.pt", "--tensors", "--json").stdout)
    assert [(each["name"], each["shape"]) for each in found["tensors"]] == [("model.w", [2, 3])]
    gradient.save({"model": {"w": gradient.ones(2)}, "seen": [*range(5000)]}, tmp_path / "c.pt")
    shown = run("info", tmp_path / "c.pt").output
    assert "characters)" in shown and len(shown) < 2000


def test_info_does_not_count_buffers_as_parameters(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    path = tmp_path / "model.safetensors"
    gradient.save(model.state_dict(), path)
    found = json.loads(run("info", path, "--json").stdout)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["buffers"] == sum(b.numel() for b in model.buffers())
    assert re.search(r"buffers +7 numbers", run("info", path).output)


def test_info_of_weights_that_are_no_model(tmp_path):
    weights = {"a.weight": gradient.zeros(2, 3), "b": gradient.zeros(4, dtype=gradient.int64)}
    folder = tmp_path / "bare"
    folder.mkdir()
    gradient.save(weights, folder / "model.safetensors")
    for place in (folder, folder / "model.safetensors"):
        found = json.loads(run("info", place, "--tensors", "--json").stdout)
        assert found["parameters"] == 10
        assert {each["name"]: each["shape"] for each in found["tensors"]} == {
            "a.weight": [2, 3],
            "b": [4],
        }
    result = run("info", folder)
    assert result.exit_code == 0 and "no model that gradient runs" in result.stderr


def test_models_that_cannot_be_compared(model, tmp_path):
    for name, sizes in {"small": (300, 16), "other": (300, 64), "few": (100, 32)}.items():
        config = GPT2Config(
            vocab_size=sizes[0], n_positions=64, n_embd=sizes[1], n_layer=1, n_head=2
        )
        gradient.checkpoints.save_model(GPT2LMHeadModel(config), tmp_path / name)
        result = run("diff", model, tmp_path / name, "--text", "def a")
        assert result.exit_code == 1
        assert "cannot be compared" in result.stderr and "of one model?" in result.stderr


def test_the_text_of_a_diff_fits_a_short_context(model):
    found = json.loads(run("diff", model, "@cached", "--json").stdout)
    assert found["tokens"] == 32  # of NANO
    assert "do not fit" in run("diff", model, "@cached", "--text", "a b " * 99).stderr


def test_tokenize_asks_for_a_text_by_its_name(model):
    code, output = terminal("tokenize", model)
    assert code == 2 and "give a TEXT, or pipe one in" in output


def test_narrow_terminals_lose_nothing(model):
    """A long name is folded, not cut."""
    code, output = terminal("info", model, "--tensors", columns="40")
    assert code == 0 and "\u2026" not in output
    assert max(len(re.sub("\x1b[^m]*m", "", line)) for line in output.splitlines()) <= 40


# train -------------------------------------------------------------------------------------------


def test_train_in_a_pipe(text, tmp_path):
    done = program("train", text, "--out", tmp_path / "run", *NANO)
    assert done.returncode == 0, done.stderr
    assert "step     20  loss" in done.stdout and "tok/s" in done.stdout
    assert "validation loss" in done.stdout and "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"model: {tmp_path / 'run' / 'model'}"
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert record["command"].startswith("gradient train ") and "--n-embd 32" in record["command"]


def test_train_json_lines(text, tmp_path):
    result = run("train", text, "--out", tmp_path / "run", *NANO, "--json")
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"start", "step", "evaluation", "sample", "checkpoint", "finish"} <= {
        event["event"] for event in events
    }
    assert events[-1]["finished"] and events[-1]["step"] == 20


def test_train_on_a_terminal_shows_a_bar(text, tmp_path):
    code, output = terminal("train", text, "--out", tmp_path / "run", *NANO)
    assert code == 0, output
    assert "step 20/20" in output and "100%" in output and "tok/s  left 0:00" in output
    assert "finished: 20 steps in" in output and "\x1b[" in output


def test_train_on_a_narrow_terminal(text, tmp_path):
    """The step, the loss and the time to go are there whole."""
    code, output = terminal("train", text, "--out", tmp_path / "run", *NANO, columns="40")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output).replace("\r", "\n").splitlines()
    whole = re.compile(r"step \d+/\d+ +loss [\d.]+ +left \d:\d\d")
    assert code == 0 and any(map(whole.search, lines))


def test_a_config_is_the_command_that_it_records(monkeypatch):
    seen = []
    monkeypatch.setattr("gradient.training.run.train", lambda config, **_: seen.append(config))
    config = TrainConfig(
        paths=("my text", "other"),
        out="a run",
        n_embd=384,
        steps=7,
        max_minutes=1.5,
        learning_rate=3e-4,
        sample_prompts=("a b", "--c"),
        tensorboard=False,
    )
    result = run(*shlex.split(config.command())[1:])
    assert result.exit_code == 0, result.output
    assert seen == [config]


def test_train_ctrl_c_and_resume(text, tmp_path):
    options = [*NANO, "--steps", "100000", "--log-every", "1"]
    command = [sys.executable, "-m", "gradient", "train", str(text), "--out", str(tmp_path / "run")]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step      3"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert rest.splitlines()[-1] == f"resume with: gradient train --resume --out {tmp_path / 'run'}"
    [saved] = (tmp_path / "run" / "checkpoints").glob("step-*")
    step = int(saved.name.removeprefix("step-"))
    result = run("train", "--resume", "--out", tmp_path / "run", "--steps", step + 3)
    assert result.exit_code == 0, result.output
    assert f"resumed after step {step}" in result.output


def test_train_does_not_resume_another_model(text, model):
    result = run("train", "--resume", "--out", model.parent, "--n-embd", "64")
    assert result.exit_code == 1
    assert "--n-embd: 32 in the checkpoint, 64 now" in result.output


ENDLESS = """
import sys, time
from gradient.cli import main
from gradient.training.trainer import Trainer

step, endless = Trainer.train_step, int(sys.argv.pop(1))

def train_step(trainer):
    while trainer.step == endless:
        time.sleep(0.05)  # a long sleep does not see a signal that came just before it began
    return step(trainer)

Trainer.train_step = train_step
main()
"""


@contextlib.contextmanager
def endless(text, folder, step, **options):
    """`gradient train`, whose step of that number never ends."""
    command = [sys.executable, "-c", ENDLESS, str(step), "train", str(text), "--out", str(folder)]
    command += [*NANO, "--log-every", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, **options) as process:
        try:
            yield process
        finally:
            process.kill()  # a test that failed would wait for it


def until(stream, words):
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"the output ended without {words!r}")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_second_ctrl_c_breaks_off(handler, text, tmp_path):
    """Also where SIGINT was ignored at the start, as by nohup."""

    def start_with() -> None:
        signal.signal(signal.SIGINT, handler)

    with endless(text, tmp_path / "run", 1, preexec_fn=start_with) as process:
        until(process.stdout, b"step      1")
        process.send_signal(signal.SIGINT)
        until(process.stdout, b"stopping")
        process.send_signal(signal.SIGINT)
        # Python may end itself by the signal, which a shell also reports as 130: it does where the
        # interrupt has passed through code that was compiled from text.
        assert process.wait(timeout=120) in (130, -signal.SIGINT)
        assert process.stderr.read().splitlines()[-1] == b"interrupted"


def test_ctrl_c_before_the_first_step_breaks_off(text, tmp_path):
    """There is nothing to save; and that step is where kernels are compiled."""
    with endless(text, tmp_path / "run", 0) as process:
        until(process.stdout, b"parameters")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) in (130, -signal.SIGINT)
        assert process.stderr.read().splitlines()[-1] == b"interrupted"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_ctrl_c_while_the_command_line_is_imported(monkeypatch, capsys):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradient.cli.app.app", interrupted)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130 and capsys.readouterr().err == "interrupted\n"


# info, check, doctor, bench ----------------------------------------------------------------------


def test_info(model):
    described = json.loads(run("info", model, "--json").stdout)
    assert described["architecture"] == "GPT2LMHeadModel"
    assert described["context_length"] == 32 and described["dtypes"] == ["float32"]
    assert described["bytes"] == 4 * described["parameters"]
    assert described["config"]["n_embd"] == 32
    shown = run("info", model).output
    assert "transformer.h.*.attn" in shown and f"{described['parameters']:,}" in shown


def test_info_of_a_run_a_checkpoint_and_a_file(model):
    run_folder = model.parent
    whole = json.loads(run("info", model, "--json").stdout)
    of_run = json.loads(run("info", run_folder, "--json").stdout)
    assert of_run["parts"] == whole["parts"] and of_run["training"]["steps"] == 20
    checkpoint = run_folder / "checkpoints" / "step-00000020"
    described = json.loads(run("info", checkpoint, "--json").stdout)
    assert described["step"] == 20 and described["metrics"]["best_val_loss"] > 0
    shown = run("info", model / "model.safetensors").output
    assert f"{whole['parameters']:,}" in shown and "format" in shown


def test_info_of_a_truncated_file(model, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((model / "model.safetensors").read_bytes()[:-100])
    result = run("info", path)
    assert result.exit_code == 1 and str(path) in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_streams_that_are_closed_from_the_start():
    command = f"{sys.executable} -m gradient generate Once -n 2"
    for closed in (">&-", "2>&-", "<&-"):
        done = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, closed


def test_check_some_ops():
    result = run("check", "exp", "softmax")
    assert result.exit_code == 0, result.output
    assert "rows passed on cpu" in result.output
    document = json.loads(run("check", "exp", "--json").stdout)
    assert document["failed"] == 0 and document["ops"][0]["op"] == "exp"


def test_check_a_plugin():
    command = shlex.join(process.NUMPY_PLUGIN)
    result = run("plugin", "check", command, "exp", "softmax")
    assert result.exit_code == 0, result.output
    assert "rows passed on plugin" in result.output


def test_doctor():
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert gradient.__version__ in result.output and "NumPy's BLAS" in result.output
    found = json.loads(run("doctor", "--json").stdout)
    assert found["devices"]["cpu"]["state"] == "ok"


def test_a_table_on_a_terminal_has_borders():
    code, output = terminal("doctor")
    assert code == 0 and "│ numpy" in output


def test_an_error_on_a_terminal(tmp_path):
    code, output = terminal("info", tmp_path / "nowhere")
    assert code == 1 and "error: " in output and "Traceback" not in output


def test_doctor_names_the_command_that_mends(monkeypatch):
    def version(name: str) -> str:
        if name in ("numba", "matplotlib", "llguidance"):
            raise __import__("importlib.metadata").metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    result = run("doctor")
    assert result.exit_code == 1
    assert f"{sys.executable} -m pip install numba" in result.output
    assert "optional: matplotlib is not installed" in result.output
    assert f'{sys.executable} -m pip install "gradient-dl[constraints]"' in result.output


SLOW = {
    "NUMBA_DISABLE_JIT": ("1", "NUMBA_DISABLE_JIT is set: kernels are not compiled"),
    "PYTHONDONTWRITEBYTECODE": (
        "1",
        "PYTHONDONTWRITEBYTECODE is set: Python compiles every module",
    ),
    "GRADIENT_CPU": ("x86-64", "GRADIENT_CPU is set: kernels are made for a lesser processor"),
    "GRADIENT_TEST_DATA": ("/nowhere", "GRADIENT_TEST_DATA is '/nowhere', where no folder is"),
}


@pytest.mark.parametrize("name", SLOW)
def test_doctor_says_what_a_setting_costs(name, monkeypatch):
    value, what = SLOW[name]
    monkeypatch.setenv(name, value)
    result = run("doctor")
    assert result.exit_code == 0 and f"slow: {what}" in result.output
    assert f"unset {name}" in result.output
    monkeypatch.setenv(name, "")
    assert what not in run("doctor").output


@pytest.mark.parametrize(
    ("cores", "usable", "threads", "what", "fix"),
    [
        (4, 4, 1, "kernels run on 1 of the 4 cores that this process may use (OMP_NUM_THREADS",
         "unset OMP_NUM_THREADS, or set OMP_NUM_THREADS=4"),
        (4, 1, 1, "this process may use one of the machine's 4 cores (taskset", "taskset -c"),
        (4, 4, 4, None, None),
        (1, 1, 1, None, None),
    ],
)  # fmt: skip
def test_doctor_finds_idle_cores(cores, usable, threads, what, fix, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("gradient.backends.numpy.cpu_count.usable_cpus", lambda: usable)
    monkeypatch.setattr("gradient.backends.numpy.cpu_count.cpu_quota", lambda: 8.0)
    monkeypatch.setattr("gradient.backends.numpy.threads.get_num_threads", lambda: threads)
    found = [each for each in slowness(Path("/"), 1) if "core" in each["what"]]
    assert len(found) == (what is not None)
    assert all(each["what"].startswith(what) and fix in each["fix"] for each in found)


def test_doctor_says_what_kernels_cost():
    assert "can be kept nowhere" in slowness(None, 0)[-1]["what"]
    assert any("no kernel is compiled yet" in each["what"] for each in slowness(Path("/"), 0))
    assert not any("compiled yet" in each["what"] for each in slowness(Path("/"), 1))


def test_a_warning_is_one_plain_line(tmp_path):
    script = "import gradient.cli as c, warnings\nc.show_as_lines()\n"
    script += "warnings.warn('the first\\nand second', stacklevel=1)\n"
    command = [sys.executable, "-W", "always", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stderr == "warning: the first and second\n" and result.stdout == ""


def test_doctor_knows_every_dependency():
    metadata = configparser.ConfigParser()
    metadata.read(CHECKOUT / "setup.cfg")
    core = metadata["options"]["install_requires"].split("\n")
    names = {re.split(r"[;>=<~! ]", line)[0] for line in core if line}
    assert "numpy" in names
    assert names <= {package.name for package in PACKAGES if package.required}


@pytest.mark.slow
def test_bench():
    document = json.loads(run("bench", "--json").stdout)
    assert {"small op", "matmul", "training", "generation"} <= {
        result["name"] for result in document["results"]
    }
    assert all(result["value"] > 0 for result in document["results"])


def test_a_locale_without_the_character():
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    arguments = ("generate", "caf\u00e9 = ", "-n", 1)
    done = program(*arguments, env=ascii_only)
    compiling = "compiling kernels, cached for later runs\n"
    assert done.returncode == 0 and done.stderr.replace(compiling, "") == ""
    assert done.stdout.startswith("caf? = ")
    assert json.loads(program(*arguments, "--json", env=ascii_only).stdout)["prompt"] == (
        "caf\u00e9 = "
    )


def test_generate_packs_the_weights_on_request(model):
    result = run(
        "generate", "def ", "-m", model, "-q", "q8_0", "-n", 4, "--temperature", 0, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["text"]
    result = run("generate", "def ", "-m", model, "-q", "q9")
    assert result.exit_code == 1 and "expected one of q4_k_m" in result.output


def test_loading_shows_what_it_converts(model, monkeypatch):
    monkeypatch.setattr("gradient.cli.progress.LINE_EVERY", 0.0)
    result = run("generate", "def ", "-m", model, "--dtype", "bfloat16", "-n", 2)
    assert "loading: " in result.stderr and " left" in result.stderr
    result = run("generate", "def ", "-m", model, "-n", 2)
    assert "loading" not in result.stderr

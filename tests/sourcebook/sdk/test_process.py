"""Functions of plugins in their own processes."""

import asyncio
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from sourcebook.errors import ManifestError, ParserError, PluginKilled, TransientError
from sourcebook.sdk.process import PluginObject, call_plugin, describe_exit

MIB = 1024 * 1024


def write(folder: Path, **modules: str) -> Path:
    plugin = folder / "bench"
    plugin.mkdir(exist_ok=True)
    for name, code in modules.items():
        (plugin / f"{name}.py").write_text(dedent(code))
    return plugin


def call(plugin: Path, function: str = "parser:load", *args: Any, seconds: float = 30, **options: Any) -> Any:
    limits = {"memory_bytes": 512 * MIB, "timeout": timedelta(seconds=seconds), **options}
    return asyncio.run(call_plugin(plugin, function, args=args, **limits))


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_a_function_gets_arguments_and_returns_json_values(tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        parser="""
        from pathlib import Path
        def load(folder, extra):
            return [(folder, extra), Path("/a"), {"b", "a"}, {1: None}]
        """,
    )
    assert call(plugin, "parser:load", "/data", {"x": 1}) == [["/data", {"x": 1}], "/a", ["a", "b"], {"1": None}]


def test_two_plugins_may_have_modules_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        plugin = write(
            tmp_path / name, parser="from helper import NAME\ndef load(): return NAME", helper=f"NAME = '{name}'"
        )
        assert call(plugin) == name


@pytest.mark.parametrize(
    "statement",
    [
        "from helper import X",
        "from .helper import X",
        "from . import helper\nX = helper.X",
        "from bench.helper import X",
    ],
)
def test_siblings_are_imported_in_every_way(tmp_path: Path, statement: str) -> None:
    assert call(write(tmp_path, parser=f"{statement}\ndef load(): return X", helper="X = 3")) == 3


def test_a_module_may_be_called_like_the_plugin_or_like_a_library(tmp_path: Path) -> None:
    plugin = write(
        tmp_path, bench="import json\ndef load(): return json.dumps([1])", logging="def load(): return 'mine'"
    )
    assert call(plugin, "bench:load") == "[1]"
    assert call(plugin, "logging:load") == "mine"


def test_a_module_in_a_folder_of_the_plugin_is_found(tmp_path: Path) -> None:
    plugin = write(tmp_path)
    (plugin / "inner").mkdir()
    (plugin / "inner" / "parser.py").write_text("def load(): return __name__")
    assert call(plugin, "inner.parser:load") == "bench.inner.parser"


def test_a_function_of_an_installed_module_may_be_named(tmp_path: Path) -> None:
    assert call(write(tmp_path), "os.path:basename", "/a/b") == "b"


def test_edits_take_effect_at_the_next_call_and_nothing_is_written_into_the_plugin(tmp_path: Path) -> None:
    for value in (1, 2, 3):
        assert call(write(tmp_path, parser=f"def load(): return {value}")) == value
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["parser.py"]


def test_an_object_has_attributes_a_logger_and_may_be_changed(tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        parser="""
        def load(self):
            self.logger.info("hello")
            self.release = self.__class__.SRC_NAME + self.version
        def mapping(cls):
            return [cls.__name__, cls.SRC_NAME]
        """,
    )
    dumper = PluginObject("Dumper", {"SRC_NAME": "bench", "version": "1"})
    assert call(plugin, "parser:load", dumper, or_attribute="release") == "bench1"
    assert call(plugin, "parser:mapping", PluginObject("Uploader", {"SRC_NAME": "bench"}, as_class=True)) == [
        "Uploader",
        "bench",
    ]


def test_what_a_plugin_prints_does_not_disturb_its_result(tmp_path: Path) -> None:
    code = "import os\ndef load():\n    print('{')\n    os.system('echo }')\n    return 1"
    assert call(write(tmp_path, parser=code)) == 1


def test_an_exception_comes_with_the_frames_of_the_plugin(tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        parser="import helper\ndef load():\n    helper.fail()\n",
        helper="import json\ndef fail():\n    print('before')\n    json.loads('{')\n",
    )
    with pytest.raises(ParserError, match=r"'parser:load' of plugin 'bench': raised JSONDecodeError: ") as caught:
        call(plugin)
    traceback = caught.value.details["traceback"].splitlines()
    assert "parser.py" in traceback[1]
    assert any("helper.py" in line for line in traceback)
    assert not any("sourcebook/sdk" in line for line in traceback)
    assert caught.value.details["output"] == "before"


def test_the_causes_of_an_exception_are_shown_too(tmp_path: Path) -> None:
    plugin = write(
        tmp_path,
        parser="""
        def load():
            try:
                {}["first"]
            except KeyError as error:
                raise ValueError("second") from error
        """,
    )
    with pytest.raises(ParserError) as caught:
        call(plugin)
    traceback = caught.value.details["traceback"]
    assert "KeyError: 'first'" in traceback
    assert "ValueError: second" in traceback


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("import os; os._exit(7)", "ended its process (exit code 7)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended its process (signal SIGSEGV)"),
        ("return object()", "returned a object that is not a JSON value"),
        ("yield 1", "returned a generator that is not a JSON value"),
        ("return bytearray(10**10)", "raised MemoryError"),
        ("import nothing_of_that_name", "raised ModuleNotFoundError"),
        ("return input()", "raised EOFError"),
        ("return 'x' * (17 * 2**20)", "returned more than"),
    ],
)
def test_every_way_to_fail_is_told(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ParserError) as caught:
        call(write(tmp_path, parser=f"def load():\n    {code}"))
    assert message in caught.value.message


def test_a_module_with_a_syntax_error_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParserError, match="SyntaxError") as caught:
        call(write(tmp_path, parser="def load(:"))
    assert caught.value.details["traceback"].splitlines()[0].strip().endswith('parser.py", line 1')


def test_a_syntax_error_behind_an_import_begins_at_the_authors_line(tmp_path: Path) -> None:
    plugin = write(tmp_path, parser="import helper\ndef load(): pass\n", helper="x = (\n")
    with pytest.raises(ParserError, match="SyntaxError") as caught:
        call(plugin)
    first, *rest = caught.value.details["traceback"].splitlines()[1:]
    assert 'parser.py", line 1' in first
    assert any('helper.py", line 1' in line for line in rest)
    assert not any("importlib" in line or "sourcebook/sdk" in line for line in rest)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def load(): pass", "'parser:load': load() (parser.py, line 1) must take one argument: too many positional"),
        (
            "\ndef load(a, b): pass",
            "load(a, b) (parser.py, line 2) must take one argument: missing a required argument: 'b'",
        ),
        ("class Loader:\n    def __call__(self): pass\nload = Loader()", "load() must take one argument"),
    ],
)
def test_a_function_that_takes_other_arguments_is_told_its_signature(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ParserError) as caught:
        call(write(tmp_path, parser=code), "parser:load", "x")
    assert message in caught.value.message
    assert "traceback" not in caught.value.details


@pytest.mark.parametrize("code", ["load = str", "load = print", "def load(*args): pass", "def load(a, b=1): pass"])
def test_a_function_that_takes_the_arguments_is_called(tmp_path: Path, code: str) -> None:
    assert call(write(tmp_path, parser=code), "parser:load", "x") in {"x", None}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("parser:lod", "has no function 'lod'; did you mean 'load'?"),
        ("parsr:load", "has no file parsr.py, and no such module is installed; did you mean 'parser'?"),
        ("no.such:load", "has no file no/such.py"),
        ("parser:VALUE", "has no function 'VALUE'"),
    ],
)
def test_a_function_that_is_not_there_is_told_with_the_nearest(tmp_path: Path, function: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        call(write(tmp_path, parser="VALUE = 1\ndef load(): pass"), function)
    assert message in caught.value.message


def test_a_plugin_sees_nothing_of_the_environment_but_what_programs_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "SOURCEBOOK_BROKER_URL": "redis://:hunter2@host",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "GITHUB_TOKEN": "hunter2",
        "https_proxy": "http://me:hunter2@proxy:3128",
    }
    harmless = {"PATH": os.environ["PATH"], "LC_TIME": "C", "OMP_NUM_THREADS": "2", "http_proxy": "http://proxy:3128"}
    for name, value in {**secrets, **harmless, "MINE": "1", "MY_TOKEN": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SOURCEBOOK_PLUGIN_VARIABLES", "MINE, MY_TOKEN")
    seen = call(write(tmp_path, parser="import os\ndef load(): return dict(os.environ)"))
    assert "hunter2" not in str(seen)
    assert seen.items() >= {**harmless, "MINE": "1", "MY_TOKEN": "2"}.items()


def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('wrong module')")
    monkeypatch.chdir(tmp_path)
    assert call(write(tmp_path, parser="import json\ndef load(): return json.loads('1')")) == 1


# A plugin that starts a process of its own and tells both ids.
_SPAWNS = """
import os, pathlib, subprocess, sys, time
def load(path, seconds):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(path + ".tmp").write_text(f"{os.getpid()} {child.pid}")
    os.rename(path + ".tmp", path)
    time.sleep(seconds)
"""


def read_pids(path: Path) -> list[int]:
    while not path.exists():
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


@pytest.mark.parametrize("seconds", [0, 60], ids=["ended", "timeout"])
def test_nothing_that_a_plugin_started_stays(tmp_path: Path, seconds: int) -> None:
    plugin, told = write(tmp_path, parser=_SPAWNS), tmp_path / "pids"
    if seconds:
        with pytest.raises(ParserError, match=r"did not end within 0:00:02"):
            call(plugin, "parser:load", str(told), seconds, seconds=2)
    else:
        call(plugin, "parser:load", str(told), seconds)
    for pid in read_pids(told):
        wait_until_gone(pid)


def test_a_cancelled_call_kills_the_process(tmp_path: Path) -> None:
    plugin, told = write(tmp_path, parser=_SPAWNS), tmp_path / "pids"

    async def main() -> None:
        limits: Any = {"memory_bytes": 512 * MIB, "timeout": timedelta(seconds=60)}
        task = asyncio.create_task(call_plugin(plugin, "parser:load", args=[str(told), 60], **limits))
        await asyncio.to_thread(read_pids, told)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    for pid in read_pids(told):
        wait_until_gone(pid)


def test_exit_codes_in_words() -> None:
    assert describe_exit(-signal.SIGKILL) == "signal SIGKILL"
    assert describe_exit(-99) == "exit code -99"
    assert os.EX_OK == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_killed_from_outside_is_a_transient_error(tmp_path: Path, number: signal.Signals) -> None:
    plugin = write(tmp_path, parser=f"import os\ndef load(): os.kill(os.getpid(), {int(number)})")
    with pytest.raises(PluginKilled, match=number.name) as caught:
        call(plugin)
    assert isinstance(caught.value, TransientError)

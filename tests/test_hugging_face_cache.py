"""The shared cache of Hugging Face: `huggingface_hub` reads what we wrote, and we read what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hub import DEMO

import mullama

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from hub import HubServer

    Script = Callable[[str], CompletedProcess[str]]

pytestmark = pytest.mark.slow

NAME = "hf.co/mullama/demo-GGUF:Q8_0"

# It reads its environment when it is imported, so it has a process of its own.
DOWNLOAD = """
import json
from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache
found = try_to_load_from_cache("mullama/demo-GGUF", "demo-Q8_0.gguf")
path = hf_hub_download("mullama/demo-GGUF", "demo-Q8_0.gguf"{offline})
told = scan_cache_dir()
repos = [[repo.repo_id, sum(file.size_on_disk for rev in repo.revisions for file in rev.files)] for repo in told.repos]
print(json.dumps([found if isinstance(found, str) else None, path, repos, [str(each) for each in told.warnings]]))
"""


SCAN = """
import json
from huggingface_hub import scan_cache_dir
told = scan_cache_dir()
files = [sorted(file.file_name for rev in repo.revisions for file in rev.files) for repo in told.repos]
print(json.dumps([files, [str(each) for each in told.warnings]]))
"""


@pytest.fixture(autouse=True)
def _plain_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


def test_huggingface_hub_reads_the_cache_that_we_wrote(hub: HubServer, script: Script) -> None:
    local = mullama.pull(NAME)
    assert local.location == "hugging_face"
    hub.reset()
    done = script(DOWNLOAD.format(offline=", local_files_only=True"))
    assert done.returncode == 0, done.stderr
    found, path, repos, warnings = json.loads(done.stdout)
    assert found == path
    assert Path(path).read_bytes() == DEMO.read_bytes()
    assert repos == [["mullama/demo-GGUF", DEMO.stat().st_size]]
    assert warnings == []
    # Neither does it download the file again when it may.
    assert script(DOWNLOAD.format(offline="")).returncode == 0
    assert hub.bodies() == []


def test_we_read_the_cache_that_huggingface_hub_wrote(hub: HubServer, script: Script, tmp_path: Path) -> None:
    done = script(DOWNLOAD.format(offline=""))
    assert done.returncode == 0, done.stderr
    path = json.loads(done.stdout)[1]
    hub.reset()
    with mullama.Model.load(NAME, pull=False) as model:
        assert model.name == NAME
        assert model.path.resolve() == (tmp_path / path).resolve()
    assert [(each.name, each.location) for each in mullama.list_models()] == [(NAME, "hugging_face")]
    mullama.pull(NAME)
    assert hub.bodies() == []


def test_what_huggingface_hub_wrote_is_not_ours_to_remove(hub: HubServer, script: Script) -> None:
    del hub
    done = script(DOWNLOAD.format(offline=""))
    assert done.returncode == 0, done.stderr
    with pytest.raises(mullama.MullamaError):
        mullama.remove_model(NAME)
    mullama.Model.load(NAME, pull=False).close()


@pytest.mark.parametrize(
    ("pulled", "removed"),
    [
        (NAME, NAME),
        ("hf.co/mullama/demo-GGUF", "hf.co/mullama/demo-GGUF:Q4_K_M"),
        ("hf.co/mullama/demo-GGUF:Q4_K_M", "hf.co/mullama/demo-GGUF"),
        ("hf.co/mullama/split-GGUF", "hf.co/mullama/split-GGUF"),
    ],
)
def test_nothing_of_a_removed_repository_is_left_in_the_cache(
    hub: HubServer, script: Script, pulled: str, removed: str
) -> None:
    del hub
    mullama.pull(pulled)
    mullama.remove_model(removed)
    done = script(SCAN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]


def test_after_one_of_two_quantizations_is_removed_the_other_one_loads(hub: HubServer, script: Script) -> None:
    # On this server both have the same bytes, so they also share a blob.
    other = "hf.co/mullama/demo-GGUF:Q4_K_M"
    mullama.pull(NAME)
    mullama.pull(other)
    mullama.remove_model(NAME)
    done = script(SCAN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[["demo-Q4_K_M.gguf"]], []]
    hub.reset()
    mullama.Model.load(other, pull=False).close()
    assert hub.requests() == []
    with pytest.raises(mullama.ModelNotFoundError):
        mullama.Model.load(NAME, pull=False)


def test_a_private_repository_needs_the_token_that_huggingface_hub_uses(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf.co/mullama/private-GGUF:Q8_0"
    with pytest.raises(mullama.MullamaError) as caught:
        mullama.pull(name)
    assert "HF_TOKEN" in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", hub.hf_token)
    assert mullama.pull(name).location == "hugging_face"
    assert hub.hf_token not in json.dumps([each for each in hub.bodies() if each["origin"] == "cdn"])

"""Tries the plug-in for Vulkan on Mesa's software device: `make vulkan`.

It is the one backend that computes asynchronously, and on a device with memory of its own, that every machine can run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from release.check import PROMPT, Installed, expect

SOFTWARE = {"VK_DRIVER_FILES": "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"}
SOFTWARE["VK_ICD_FILENAMES"] = SOFTWARE["VK_DRIVER_FILES"]  # its name before 2023
# By itself the backend leaves devices out that are the processor.
CHOSEN = SOFTWARE | {"GGML_VK_VISIBLE_DEVICES": "0"}
NO_DRIVER = dict.fromkeys(SOFTWARE, "/nowhere.json")
STREAMS = """
from mullama import Context, Model
model = Model.load("demo")
assert model.n_gpu_layers > 0, model
context = Context(model)
# The first tokens wait for the device to compile its shaders, and a software device is slow.
greedy = {"max_tokens": 8, "temperature": 0.0, "timeout_ms": 0}
alone = context.generate("Write a poem:", **greedy).text
streams = [context.generate_stream("Write a poem:", **greedy) for _ in range(2)]
assert ["".join(token.text for token in stream) for stream in streams] == [alone] * 2
cancelled = context.generate_stream("Write a poem:", 200, ignore_eos=True, timeout_ms=0)
next(iter(cancelled))
cancelled.close()
assert context.generate("Write a poem:", **greedy).text == alone
print(alone)
"""


def main(folder: Path) -> None:
    """Runs every check; the first that fails ends the process."""
    with tempfile.TemporaryDirectory() as scratch:
        installed = Installed(next(folder.glob("mullama-*.whl")), Path(scratch))
        plugin = next(folder.glob("mullama_vulkan-*.whl"))
        installed.output(installed.python, "-m", "pip", "install", "--quiet", "--no-deps", str(plugin))
        for what, environment in (("a driver", NO_DRIVER), ("a GPU", SOFTWARE)):
            state, devices = reported(installed, environment)
            expect(f"the plug-in without {what}", state, "no driver or no device, so it is not used")
            expect(f"the devices without {what}", devices, ["cpu"])
            expect(f"whether a poem is written without {what}", bool(installed.poem(env=environment)), True)
        state, devices = reported(installed, CHOSEN)
        expect("the plug-in on the software device", (state, devices), ("devices found: 1", ["cpu", "gpu"]))
        text = installed.output(installed.python, "-c", STREAMS, env=CHOSEN)
        expect("whether streams on the device write a poem", len(text.split()) > len("poem"), True)
        check_foreign(installed)


def reported(installed: Installed, environment: dict[str, str]) -> tuple[str, list[str]]:
    """What `mullama doctor` says about the plug-in, and the kinds of the devices."""
    about = json.loads(installed.output(installed.python, "-m", "mullama", "doctor", "--json", env=environment))
    return about["plugins"][0]["state"], sorted(device["kind"] for device in about["devices"])


def check_foreign(installed: Installed) -> None:
    """A plug-in of another build is refused with both builds, and models run on the CPU."""
    library = next(installed.libraries.parents[1].glob("mullama_vulkan/*.so"))
    marker = installed.folder / "id"
    marker.write_text("mullama 99.0.0", encoding="utf-8")
    subprocess.run(["objcopy", f"--update-section=.mullama.build={marker}", library], check=True)
    state, devices = reported(installed, CHOSEN)
    expect("the devices with a plug-in of another build", devices, ["cpu"])
    own = (installed.libraries / "build-id").read_text(encoding="utf-8")
    expect("whether the refusal names both builds", "mullama 99.0.0" in state and own in state, True)
    done = installed.run(installed.python, "-m", "mullama", *PROMPT, env=CHOSEN)
    expect("whether a model still runs", (done.returncode, bool(done.stdout)), (0, True))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

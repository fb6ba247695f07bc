"""The ready-made Dockerfile and Kubernetes manifests: they hold together, and Portico takes their options.

Configurations of proxies are run by test_peers.py; here they are compared with the guides.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys

import pytest

from harness.documentation import read
from harness.process import Process
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

DEPLOY = TESTS.parent / "deploy"
REFERENCE = TESTS.parent / "docs" / "reference" / "settings.md"

yaml = pytest.importorskip("yaml")


def instructions() -> list[tuple[str, str]]:
    """Names and arguments of the Dockerfile's instructions, one after the other."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def last(name: str) -> str:
    """The argument of the last such instruction."""
    return [argument for instruction, argument in instructions() if instruction == name][-1]


def manifest(name: str) -> dict:
    return yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())


def container() -> dict:
    (only,) = manifest("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    return only


def option(name: str) -> float:
    """What the manifest says of an option that is a number."""
    (text,) = [word.split("=")[1] for word in container()["args"] if word.startswith(f"--{name}=")]
    return float(text)


def take(options: list[str], folder) -> None:
    """Asserts that the command takes these options, and the application with them."""
    (folder / "app.py").write_text("def app(environ, start_response): ...\n")
    ended = run_to_end(*options, "--check-config", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "app:app" in ended.stderr and "WARNING" not in ended.stderr


def test_the_options_of_the_image_are_taken(tmp_path):
    program, *options = json.loads(last("ENTRYPOINT"))
    assert program == "portico"
    take([*options, *json.loads(last("CMD"))], tmp_path)


def test_the_image_is_slim_and_nobodys():
    stages = [argument for name, argument in instructions() if name == "FROM"]
    assert len(stages) == 2 and all("-slim" in stage for stage in stages)
    user, group = last("USER").split(":")
    assert int(user) > 0 and int(group) > 0, "Kubernetes cannot tell by a name that it is not root"
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_is_a_command_that_works(serve, tmp_path):
    (tmp_path / "app.py").write_text("def app(environ, start_response): raise RuntimeError('not asked')\n")
    _, *options = json.loads(last("ENTRYPOINT"))
    server = serve("app", *options[options.index("--health-path") :], cwd=tmp_path)
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command.pop(0) == "python"
    here = [word.replace("127.0.0.1:8000", "{}:{}".format(*server.address)) for word in command]
    assert here != command
    assert run_to_end(*here, cwd=tmp_path, program=[sys.executable]).returncode == 0
    server.stop()
    assert run_to_end(*here, cwd=tmp_path, program=[sys.executable]).returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a process 1 of its own")
def test_process_1_ends_by_signal_and_reaps_orphans(serve, tmp_path):
    (tmp_path / "app.py").write_text(
        "import subprocess\n"
        "def app(environ, start_response):\n"
        "    subprocess.run(['bash', '-c', 'sleep 0.2 & disown'], check=True)\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return []\n"
    )
    prefix = ("unshare", "--pid", "--fork", "--mount-proc")
    server = serve("app", cwd=tmp_path, prefix=prefix)
    (first,) = Process(server.pid).children()
    assert re.search(r"^NSpid:\t\d+\t1$", (first.folder / "status").read_text(), re.MULTILINE)
    for _ in range(3):
        assert server.request().status == 200
    wait_until(lambda: len(first.children()) == 1, "the orphans to be reaped")
    first.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_the_options_of_the_deployment_are_taken(tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    _, *options = json.loads(last("ENTRYPOINT"))
    words = [word.replace("/uploads", str(uploads)) for word in container()["args"]]
    take([*options, *words], tmp_path)
    mounts = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts == {"/uploads"}


def test_probes_ask_the_server_itself():
    (path,) = [word.split("=")[1] for word in container()["args"] if word.startswith("--health-path=")]
    probes = {"startupProbe": "startupz", "readinessProbe": "readyz", "livenessProbe": "livez"}
    asked = {name: container()[name]["httpGet"]["path"] for name in probes}
    assert asked == {name: path + endpoint for name, endpoint in probes.items()}


def test_kubernetes_is_more_patient_than_portico():
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    graceful = option("graceful-timeout")
    assert pod["terminationGracePeriodSeconds"] >= graceful + 5
    assert option("drain-delay") < graceful / 2
    startup = container()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= option("boot-timeout")


def test_probes_ports_and_labels_fit_together():
    deployment, service = manifest("deployment.yaml"), manifest("service.yaml")
    (port,) = container()["ports"]
    _, *words = json.loads(last("ENTRYPOINT"))
    assert words[words.index("--bind") + 1] == f"0.0.0.0:{port['containerPort']}" and (
        last("EXPOSE") == str(port["containerPort"])
    )
    (published,) = service["spec"]["ports"]
    probes = [container()[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "readiness", "liveness")]
    assert {published["targetPort"], *probes} == {port["name"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels


def test_nothing_is_allowed_that_is_not_needed():
    pod = manifest("deployment.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    user, group = last("USER").split(":")
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (
        int(user),
        int(group),
    )
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container()["resources"]["limits"]


@pytest.mark.parametrize("name", ["deployment.yaml", "service.yaml"])
def test_the_manifests_are_valid(name):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(manifest(name), version, strict=True)
    wrong = manifest(name)
    wrong["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("proxy", ["nginx", "apache", "lighttpd", "haproxy"])
def test_the_guide_shows_the_files_of_the_proxy(proxy):
    blocks, _ = read(TESTS.parent / "docs" / "guides" / f"behind-{proxy}.md")
    shown = {"\n".join(block.lines) + "\n" for block in blocks}
    files = [file for file in (DEPLOY / proxy).iterdir() if file.is_file()]
    assert files
    assert not [file.name for file in files if file.read_text() not in shown]


def test_every_option_in_the_guide_is_one():
    text = (TESTS.parent / "docs" / "guides" / "containers.md").read_text()
    known = set(re.findall(r"--[a-z][a-z_-]+", REFERENCE.read_text()))
    engines = {"--read-only", "--stop-timeout", "--tmpfs", "--cpus"}
    said = set(re.findall(r"`[^`]*`", text))
    options = {word.rstrip("`").split("=")[0] for span in said for word in shlex.split(span.strip("`"))}
    assert {word for word in options if word.startswith("--")} - known - engines == set()

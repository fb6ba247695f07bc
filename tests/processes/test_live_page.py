"""`portico web PID`: the page without any listener in the server, seen by a script and by a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.http_client import request_bytes
from harness.live_page import LivePage, Viewer
from harness.rendezvous import wait_until
from harness.server import PROMPT_ANSWER, run_to_end
from harness.sources import program

STUCK = "apps.stuck:application"
WAITING = "apps.waiting:application"
# What an operator may take from the question to the first look at the page.
PROMPT = 10.0
SCREENS = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
WITHOUT_OVERFLOW = "document.documentElement.scrollWidth <= innerWidth"


def shows(text: str) -> str:
    """A condition: the page has this text somewhere."""
    return f"document.body.innerText.includes({json.dumps(text)})"


def keep_asking(server, over: threading.Event) -> list[int]:
    """The statuses of one quick request after the other."""
    statuses = []
    with server.connect() as client:
        while not over.is_set():
            statuses.append(client.request(target="/ping").status)
            time.sleep(0.01)
    return statuses


# The command


def test_a_script_sees_what_the_page_shows(serve):
    server = serve(WAITING, "--threads", "3")
    with LivePage(server) as page:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{64}", page.url)
        assert page.ask("GET", "/state.json").status == 401
        page.log_in()
        with server.connect() as client:
            client.send(request_bytes(target="/shop?secret=1"))
            server.rendezvous.wait_for("holding answers")
            state, stacks = page.state(), page.act("/stacks")
            server.rendezvous.open("answers")
            assert client.read_response().body == b"answered"
        assert (state["pid"], state["state"], state["threads_per_worker"]) == (server.pid, "serving", 3)
        assert [slot["busy"] for slot in state["slots"]] == [1]
        (request,) = state["requests"]
        assert (request["method"], request["path"], request["phase"]) == ("GET", "/shop", "running")
        assert "secret" not in json.dumps(state)
        assert state["sentence"]["level"] == "calm", state["sentence"]
        at = [group["frames"] for group in stacks["groups"] if group["requests"]]
        assert len(at) == 1 and "in application\n" in at[0]


def test_a_server_whose_interpreter_is_held_is_shown(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "1")
    with LivePage(server) as page, server.connect() as client:
        page.log_in()
        client.send(request_bytes(target="/hold-interpreter?seconds=3"))
        server.rendezvous.wait_for("holds")
        begun = time.monotonic()
        state = page.state()
        assert time.monotonic() - begun < PROMPT_ANSWER
        assert [request["path"] for request in state["requests"]] == ["/hold-interpreter"]
        assert state["sentence"]["text"].startswith("The only thread is busy"), state["sentence"]
        assert client.read_response().body == b"held"


def test_the_token_lets_one_in(serve):
    server = serve(STUCK)
    with LivePage(server) as page:
        page.log_in()
        cookie, page.cookie = page.cookie, None
        assert page.ask("GET", page.target).status == 403
        page.cookie = cookie
        assert page.ask("GET", "/").status == 200


def test_the_server_gets_no_listener(serve):
    server = serve(STUCK)

    def sockets() -> set[str]:
        folder = f"/proc/{server.pid}/fd"
        links = (os.readlink(f"{folder}/{number}") for number in os.listdir(folder))
        return {link for link in links if link.startswith("socket:")}

    before = sockets()
    with LivePage(server) as page:
        page.log_in()
        assert page.state()["pid"] == server.pid
        assert sockets() == before


def test_the_command_ends_with_the_server(serve):
    server = serve(STUCK)
    with LivePage(server) as page:
        server.stop()
        status, output, error = page.wait()
    assert (status, output.splitlines()[-1], error) == (0, "The server has ended", "")


@pytest.mark.parametrize("way", ["SIGHUP", "SIGTERM", "standard input"])
def test_the_command_ends_with_its_terminal(serve, way):
    server = serve(STUCK)
    with LivePage(server) as page:
        if way == "standard input":
            page.hang_up()
            assert page.process.wait(PROMPT) == 0
        else:
            page.process.send_signal(getattr(signal, way))
            assert page.process.wait(PROMPT) == -getattr(signal, way)
    server.expect_prompt_answer()


def test_ctrl_c_ends_the_command(serve):
    server = serve(STUCK)
    with LivePage(server) as page:
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(PROMPT) != 0
    server.expect_prompt_answer()


def test_it_can_be_served_at_a_chosen_address(serve):
    server = serve(STUCK)
    with LivePage(server, "--bind", "[::1]:0") as page:
        assert page.url.startswith("http://[::1]:")
        page.log_in()
        assert page.state()["pid"] == server.pid
    for address, why in [("0.0.0.0:0", "use ssh -L"), ("nonsense", "is no address")]:
        ended = run_to_end("web", str(server.pid), "--bind", address, cwd=server.rendezvous.folder)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert why in ended.stderr, ended


def test_there_must_be_a_server(tmp_path):
    ended = run_to_end("web", str(os.getpid()), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is no portico that runs" in ended.stderr


# What it does


def test_the_page_reloads_scales_and_replaces(serve):
    server = serve(STUCK, "--workers", "1")
    with LivePage(server) as page:
        page.log_in()
        first = page.state()["slots"][0]["pid"]
        assert page.act("/reload") == {"told": "Reloaded."}
        state = page.state()
        assert state["reload"] == {"under_way": False, "succeeded": 1, "failed": 0}
        assert first not in [slot["pid"] for slot in state["slots"] if slot["state"] == "ready"]

        def ready() -> list[dict]:
            return [slot for slot in page.state()["slots"] if slot["state"] == "ready"]

        page.act("/workers/add")
        wait_until(lambda: len(ready()) == 2, "a second worker")
        page.act("/workers/remove")
        wait_until(lambda: len(page.state()["slots"]) == 1, "one worker less")
        (slot,) = ready()
        told = page.act(f"/slots/{slot['slot']}/replace")["told"]
        assert f"Worker {slot['pid']} " in told
        wait_until(lambda: [one["pid"] for one in ready()] not in ([], [slot["pid"]]), "another worker")
        page.act("/logs/reopen")
        server.expect_text("Handling signal: usr1")
        for target in ("/slots/99/replace", f"/slots/{slot['slot'] + 20}/replace"):
            refused = page.ask("POST", target)
            assert refused.status == 409 and b"no " in refused.body, refused


def test_a_server_without_supervisor_is_only_shown(serve):
    server = serve(None, program=program("serve_stuck"))
    with LivePage(server) as page:
        page.log_in()
        state = page.state()
        assert (state["pid"], state["actions"]) == (None, ["cancel", "profile"])
        assert page.ask("POST", "/reload").status == 404


def test_settings_show_their_source_but_no_secrets(serve):
    options = ("--threads", "3", "--env", "API_TOKEN=hunter2")
    server = serve(STUCK, *options, environment={"PORTICO_TIMEOUT": "17"})
    with LivePage(server) as page:
        assert page.ask("GET", "/settings.json").status == 401
        page.log_in()
        response = page.ask("GET", "/settings.json")
        settings = {one["name"]: (one["value"], one["origin"]) for one in json.loads(response.body)}
        assert settings["threads"] == ("3", "command line")
        assert settings["timeout"] == ("17", "PORTICO_TIMEOUT")
        assert "raw_env" in settings and b"hunter2" not in response.body
        assert "daemon" not in settings, "nobody has set it"


def test_what_has_happened_is_told(serve):
    server = serve(STUCK, "--workers", "2")
    with LivePage(server) as page:
        page.log_in()
        state = page.state()
        assert [event["kind"] for event in state["events"]][:2] == ["start", "start"]
        victim = state["slots"][0]
        os.kill(victim["pid"], signal.SIGKILL)
        server.expect_log(r"worker \d+ \(pid \d+\) died")

        def deaths() -> list[dict]:
            return [event for event in page.state()["events"] if event["kind"] == "death"]

        wait_until(lambda: deaths() != [], "the death")
        (death,) = deaths()
        assert (death["slot"], death["pid"]) == (victim["slot"], victim["pid"])
        assert re.fullmatch(rf"worker \d+ \(pid {victim['pid']}\) died after .*SIGKILL.*", death["text"])
        ready = "ready of the successor"
        wait_until(lambda: sum(slot["state"] == "ready" for slot in page.state()["slots"]) == 2, ready)
        sentence = page.state()["sentence"]
        assert sentence["level"] == "busy" and sentence["text"].startswith("A worker died "), sentence
        page.act("/reload")
        told = [event["text"] for event in page.state()["events"] if event["kind"] == "reload"]
        assert told == ["a reload was asked for", "the new code serves"]


def test_slow_and_failed_requests_outlive_their_worker(serve):
    server = serve(STUCK, "--timeout", "1", "--slow-request", "0.5", "--threads", "2")
    traced = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    with LivePage(server) as page:
        page.log_in()
        assert page.state()["recent"] == []
        assert server.request(target="/sleep?seconds=0.6&secret=1", fields=traced).status == 200
        assert server.request(target="/spin?secret=2").status == 504
        server.expect_log("timeout: GET /spin")
        server.expect_log("slow request: GET /sleep")
        page.act("/reload")
        slow, failed = page.state()["recent"]
        assert (slow["path"], slow["status"], slow["reason"]) == ("/sleep", 200, "-")
        assert 0.6 <= slow["application_seconds"] < 5 and slow["queue_seconds"] < 1
        assert slow["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert (failed["path"], failed["status"]) == ("/spin", 504)
        assert "secret" not in json.dumps(page.state())


# In a browser


@pytest.fixture(scope="module")
def viewer():
    with Viewer() as viewer:
        yield viewer


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_the_page_in_a_browser(serve, viewer, width, height, scheme):
    server = serve(WAITING, "--threads", "2", "--workers", "2")
    viewer.look(width, height, scheme)
    with LivePage(server) as page, server.connect() as client:
        client.send(request_bytes(target="/shop?secret=1"))
        server.rendezvous.wait_for("holding answers")
        viewer.open(page.url)
        viewer.wait_for(shows("All is calm: 1 of 4 threads busy"))
        assert viewer.evaluate("location.search") == "", "the token is not in the history"
        viewer.wait_for(shows("GET /shop"))
        assert not viewer.evaluate(shows("secret"))
        for heading in ("Where the threads are", "Requests in flight", "Workers", "Slow and failed", "Facts"):
            assert viewer.evaluate(shows(heading)), heading
        assert viewer.evaluate(WITHOUT_OVERFLOW)
        background = viewer.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(245, 245, 242)", "dark": "rgb(16, 19, 21)"}[scheme]
        viewer.open(page.url.partition("?")[0])
        viewer.wait_for(shows("All is calm"))
        assert viewer.leave() == []
        server.rendezvous.open("answers")
        client.read_response()


def test_everything_is_reached_with_the_keyboard(serve, viewer):
    server = serve(WAITING, "--threads", "2")
    viewer.look(1280, 900, "light")
    with LivePage(server) as page, server.connect() as client:
        client.send(request_bytes(target="/shop"))
        server.rendezvous.wait_for("holding answers")
        viewer.open(page.url)
        viewer.wait_for(shows("GET /shop"))
        viewer.press("s")
        viewer.wait_for("document.querySelectorAll('.group').length > 0")
        viewer.press("ArrowDown")
        assert "/shop" in viewer.evaluate("document.activeElement.textContent")
        viewer.press("Enter")
        viewer.wait_for("document.querySelector('.detail .frames').textContent.includes('application')")
        assert viewer.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
        # Drawing goes on meanwhile, and leaves the focus where it is.
        viewer.wait_for("history_.length > 3")
        assert "/shop" in viewer.evaluate("document.activeElement.textContent")
        viewer.press("r")
        viewer.wait_for("document.querySelector('#ask').open")
        viewer.press("Escape")
        viewer.wait_for("!document.querySelector('#ask').open")
        assert viewer.evaluate("now.reload.succeeded") == 0
        server.rendezvous.open("answers")
        client.read_response()
        viewer.press("r")
        viewer.wait_for("document.querySelector('#ask').open")
        viewer.press("Tab")
        viewer.press("Enter")
        viewer.wait_for(shows("Reloaded."))
        viewer.press("p")
        viewer.wait_for("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'")
        viewer.press("/")
        assert viewer.evaluate("document.activeElement.id") == "filter"
        named = viewer.evaluate(
            "[...document.querySelectorAll('button,input,canvas')]"
            ".filter(one => one.getClientRects().length)"
            ".filter(one => !one.textContent.trim() && !one.ariaLabel && !one.labels?.length)"
            ".map(one => one.outerHTML)"
        )
        assert named == [], "each control has a name"
        assert viewer.leave() == []


def test_a_stuck_request_is_found_and_cancelled(serve, viewer):
    """From the first look at the page, with the keyboard alone; the others notice nothing."""
    server = serve(STUCK, "--threads", "3")
    viewer.look(1280, 900, "light")
    with LivePage(server) as page, server.connect() as stuck, ThreadPoolExecutor(1) as pool:
        stuck.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for("spins")
        over = threading.Event()
        neighbour = pool.submit(keep_asking, server, over)
        try:
            begun = time.monotonic()
            viewer.open(page.url)
            viewer.wait_for(
                "[...document.querySelectorAll('td.path')].some(one => /spin/.test(one.textContent))"
            )
            viewer.press("/")
            for letter in "spin":
                viewer.press(letter)
            viewer.press("Escape")
            viewer.press("ArrowDown")
            assert "/spin" in viewer.evaluate("document.activeElement.textContent")
            viewer.press("Enter")
            viewer.wait_for("document.querySelector('.detail .frames').textContent.includes('spin_for_ever')")
            viewer.press("c")
            viewer.wait_for("document.querySelector('#ask').open")
            viewer.press("Tab")
            viewer.press("Enter")
            assert stuck.read_response().status == 503
            assert time.monotonic() - begun < PROMPT
            viewer.wait_for("/spin.* ended/.test(document.querySelector('#told').textContent)")
            viewer.wait_for("!document.querySelector('.detail')")
        finally:
            over.set()
        statuses = neighbour.result(PROMPT)
        assert len(statuses) > 10 and set(statuses) == {200}
        server.expect_log("cancel")
        assert viewer.leave() == []


def test_a_profile_becomes_a_flame_graph(serve, viewer):
    server = serve(STUCK, "--threads", "2")
    viewer.look(1280, 900, "light")
    with LivePage(server) as page, server.connect() as client:
        client.send(request_bytes(target="/sleep?seconds=11"))
        server.rendezvous.wait_for("sleeps")
        viewer.open(page.url)
        viewer.wait_for(shows("GET /sleep"))
        viewer.evaluate("document.querySelector('[data-action=profile]').click()")
        viewer.wait_for("document.querySelector('#ask').open")
        viewer.press("Tab")
        viewer.press("Enter")
        viewer.wait_for("document.querySelector('#flame').open", 20.0)
        bars = "[...document.querySelectorAll('#flame .graph button')].map(one => one.textContent)"
        assert any("sleep" in bar for bar in viewer.evaluate(bars))
        viewer.press("Escape")
        viewer.wait_for("!document.querySelector('#flame').open")
        assert client.read_response().status == 200
        assert viewer.leave() == []


def test_nothing_moves_for_those_who_ask_for_that(serve, viewer):
    server = serve(STUCK)
    with LivePage(server) as page:
        viewer.look(1280, 900, "dark", motion=False)
        viewer.open(page.url)
        viewer.wait_for(shows("All is calm"))
        moving = (
            "[...document.querySelectorAll('.worker i')].map(one => getComputedStyle(one).transitionDuration)"
        )
        assert set(viewer.evaluate(moving)) == {"0s"}
        assert viewer.leave() == []


def test_paths_of_attackers_stay_text(serve, viewer):
    server = serve(WAITING)
    viewer.look(1280, 900, "light")
    path = "/<script>document.title='owned'</script><img/src=x/onerror=document.title='owned'>\"'`${7*7}"
    with LivePage(server) as page, server.connect() as client:
        client.send(request_bytes(target=path))
        server.rendezvous.wait_for("holding answers")
        viewer.open(page.url)
        viewer.wait_for(shows(path))
        viewer.press("s")
        viewer.wait_for("document.querySelectorAll('.group').length > 0")
        viewer.press("ArrowDown")
        viewer.press("Enter")
        viewer.wait_for("document.querySelector('.detail')")
        assert "owned" not in str(viewer.evaluate("document.title"))
        assert viewer.evaluate("document.images.length + document.scripts.length") == 1
        server.rendezvous.open("answers")
        client.read_response()
        assert viewer.leave() == []


def test_traces_of_slow_requests_are_links(serve, viewer):
    server = serve(STUCK, "--slow-request", "0.1")
    traced = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    assert server.request(target="/sleep?seconds=0.2", fields=traced).status == 200
    server.expect_log("slow request: GET /sleep")
    viewer.look(1280, 900, "light")
    with LivePage(server, "--trace-url", "https://traces.example/{trace_id}?a=b") as page:
        viewer.open(page.url)
        viewer.wait_for("document.querySelector('#recent a')")
        link = viewer.evaluate("['href', 'rel', 'target'].map(it => document.querySelector('#recent a')[it])")
        trace = "https://traces.example/4bf92f3577b34da6a3ce929d0e0e4736?a=b"
        assert link == [trace, "noreferrer noopener", "_blank"]
        assert viewer.leave() == []


def test_page_of_an_ended_server_says_so(serve, viewer):
    server = serve(STUCK)
    viewer.look(390, 844, "light")
    with LivePage(server) as page:
        viewer.open(page.url)
        viewer.wait_for(shows("All is calm"))
        server.stop()
        page.wait()
        viewer.wait_for(shows("Nobody answers"))
        viewer.wait_for(shows("not connected"))
        viewer.leave()

"""The ways by which others of this kind were broken into, each tried here: it fails.

By family: (1) a header that claims what it likes, (2) requests from other sites, (3) files that are no pictures, (4) names
that are paths, (5) names that are HTML, (6) addresses of the inside, (7) pickles, (8) GET that changes something (in
`test_gets`); and text that is code.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch

from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.library.header import read_header
from danqing.library.tensors import Row, write_safetensors
from danqing.library.weights import open_file_header
from tests.security.conftest import Run
from tests.security.support import HOST, House

PACKAGE = Path(__file__).parents[2] / "app" / "danqing"

# -- 1: CVE-2026-111985, a length of a header that is believed --


@pytest.mark.parametrize("length", [2**63, 2**40, 2**31, 2**25 + 1, 0, 1])
def test_a_header_that_claims_too_much(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a":{}}' * 20)
    tracemalloc.start()
    try:
        with pytest.raises(DanqingError) as caught:
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "model_broken"
    assert peak < 2**20


# -- 2: CVE-2024-11045 (a page elsewhere opens the queue's socket), CVE-2026-56674 (Origin: null) --

FOREIGN = ("https://evil.example", "null", f"http://{HOST}.evil.example", "file://")


@pytest.mark.parametrize("origin", FOREIGN)
def test_another_site_does_nothing_with_somebodys_cookie(home: House, run: Run, origin: str) -> None:
    async def visit() -> None:
        cookie = f"danqing_session={home.logins.sessions.open('ann')}"
        for path in (
            "/gradio_api/queue/join",
            "/sdapi/v1/options",
            "/v1/jobs",
            "/ui/inputs",
            "/v1/account/password",
            "/logout",
        ):
            answer = await home.ask("POST", path, {"cookie": cookie, "origin": origin}, b"{}")
            assert answer.status == 403, path
        assert (await home.ask("GET", "/v1/jobs", {"cookie": cookie})).status == 200

    run(visit())


@pytest.mark.parametrize("origin", [*FOREIGN, None])
def test_another_site_opens_no_socket(home: House, run: Run, origin: str | None) -> None:
    async def visit() -> None:
        cookie = f"danqing_session={home.logins.sessions.open('ann')}"
        agent = {"user-agent": "Mozilla/5.0"}
        headers = {"host": HOST, "cookie": cookie, **agent, **({} if origin is None else {"origin": origin})}
        scope = {
            "type": "websocket",
            "path": "/gradio_api/queue/join",
            "raw_path": b"/gradio_api/queue/join",
            "query_string": b"",
            "root_path": "",
            "scheme": "ws",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("203.0.113.9", 1),
            "server": (HOST, 80),
            "subprotocols": [],
            "state": {},
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await home.app(scope, receive, send)
        assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]

    run(visit())


def test_a_form_of_another_site_in_a_browser_that_says_nothing(home: House, run: Run) -> None:
    """Browsers from before Origin and Sec-Fetch-Site: a token that only our own pages can read."""

    async def visit() -> None:
        cookie = f"danqing_session={home.logins.sessions.open('ann')}"
        old = {"cookie": cookie, "user-agent": "Mozilla/4.0 (compatible; MSIE 8.0)"}
        assert (await home.ask("POST", "/sdapi/v1/options", old, b"{}")).status == 403
        token = (await home.ask("GET", "/v1/account", old)).json()["csrf"]
        assert (await home.ask("POST", "/sdapi/v1/options", {**old, "x-csrf-token": token}, b"{}")).status == 200
        assert (
            await home.ask("POST", "/sdapi/v1/options", {**old, "x-csrf-token": token[:-1] + "x"}, b"{}")
        ).status == 403
        page = await home.ask("GET", "/login", {"user-agent": old["user-agent"]})
        assert "samesite=strict" in page.headers["set-cookie"].lower()
        form = f"user=ann&password={quote('correct horse battery')}".encode()
        plain = {"user-agent": old["user-agent"], "content-type": "application/x-www-form-urlencoded"}
        assert (await home.ask("POST", "/login", plain, form)).status == 403
        secret = page.body.decode().split('name="csrf" value="')[1].split('"')[0]
        brought = {**plain, "cookie": page.headers["set-cookie"].split(";")[0]}
        assert (await home.ask("POST", "/login", brought, form + f"&csrf={secret}".encode())).status == 303

    run(visit())


# -- 3: CVE-2024-10099, CVE-2026-56670…: what is served as a picture is a script --

SCRIPTS = {
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "xml": b'<?xml version="1.0"?><?xml-stylesheet href="javascript:alert(1)"?><x/>',
    "polyglot": b"GIF89a/*<script>alert(1)</script>*/",
    "pdf": b"%PDF-1.4 /JS (app.alert(1))",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file",
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_what_is_no_picture_does_not_come_in(home: House, run: Run, kind: str) -> None:
    async def visit() -> None:
        answer = await home.ask("POST", "/ui/inputs", home.headers["owner"], SCRIPTS[kind])
        assert answer.status == 422

    run(visit())


def test_every_file_that_goes_out_is_a_picture(home: House, run: Run) -> None:
    """Also when somebody with a shell has put HTML into the gallery's file."""

    async def visit() -> None:
        owner, picture = home.headers["owner"], home.things["picture"]
        path = home.service.gallery.get(picture).path
        kept = path.read_bytes()
        path.write_bytes(SCRIPTS["html"])
        try:
            for where in (f"/pictures/{picture}", f"/v1/images/{picture}", f"/shared/{home.things['secret']}"):
                answer = await home.ask("GET", where, owner)
                assert answer.headers["content-type"] == "image/png"
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "sandbox" in answer.headers["content-security-policy"]
        finally:
            path.write_bytes(kept)
        given = await home.ask("GET", f"/ui/inputs/{home.things['name']}", owner)
        assert (given.headers["content-type"], given.headers["x-content-type-options"]) == ("image/png", "nosniff")

    run(visit())


# -- 4: CVE-2025-6237 (paths in a bulk download, which deletes), CVE-2024-11042, CVE-2026-56671, CVE-2026-56673 --

ELSEWHERE = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "secrets/admin.hash",
    "../secrets/admin.hash",
    "x [output]/../../etc/passwd",
    "file:///etc/passwd",
    "%00/etc/passwd",
)
TAKEN = (
    "/pictures/{0}",
    "/v1/images/{0}",
    "/ui/inputs/{0}",
    "/ui/zip?ids={0}",
    "/shared/{0}",
    "/ui/models/preview/lora/{0}",
    "/sd_extra_networks/thumb?filename={0}",
    "/sd_extra_networks/metadata?page=lora&item={0}",
    "/v1/jobs/{0}",
)


@pytest.mark.parametrize("route", TAKEN)
def test_no_name_leads_to_another_file(home: House, run: Run, route: str) -> None:
    async def visit() -> None:
        hashed = (home.data / "secrets" / "admin.hash").read_bytes().strip()
        for name in ELSEWHERE:
            for given in (name, quote(name, safe="")):
                answer = await home.ask("GET", route.format(given), home.headers["admin"])
                assert b"root:" not in answer.body
                assert hashed not in answer.body
                assert answer.status < 500
        assert (home.data / "secrets" / "admin.hash").is_file()

    run(visit())


def test_a_zip_holds_ones_own_pictures_and_takes_nothing_away(home: House, run: Run) -> None:
    async def visit() -> None:
        picture = home.things["picture"]
        for name, count in (("owner", 1), ("other", 0), ("admin", 0)):
            answer = await home.ask("GET", f"/ui/zip?ids={picture},{picture},../x", home.headers[name])
            file = home.data / "cache" / "got.zip"
            file.write_bytes(answer.body)
            with zipfile.ZipFile(file) as archive:
                assert len(set(archive.namelist())) == count
        assert home.service.gallery.get(picture).path.is_file()

    run(visit())


@pytest.mark.parametrize("name", ["evil.py", "../x.safetensors", "a/b.safetensors", ".hidden.safetensors", "x.pth.exe"])
def test_uploads_write_models_and_nothing_else(home: House, run: Run, name: str) -> None:
    """InvokeAI 6.13.8: an upload that replaced a program."""

    async def visit() -> None:
        before = {path for path in home.data.rglob("*") if "cache" not in path.parts}
        where = f"/ui/uploads/checkpoint?name={quote(name, safe='')}&offset=0&last=1"
        assert (await home.ask("POST", where, home.headers["admin"], b"import os")).status >= 400
        assert {path for path in home.data.rglob("*") if "cache" not in path.parts} == before

    run(visit())


# -- 5: CVE-2026-111984, a model's file name on a card --


def test_a_files_name_is_no_html(home: House, run: Run) -> None:
    async def visit() -> None:
        name = "<img src=x onerror=alert(1)>"
        row = Row("lora_unet_x.lora_up.weight", "F32", (1, 1), lambda: torch.zeros(1, 1))
        folder = home.data / "models" / "Lora"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.safetensors"
        write_safetensors(file, [row], {"ss_output_name": name, "modelspec.title": name})
        (folder / f"{name}.json").write_text(json.dumps({"activation text": name, "description": name}))
        try:
            found = 0
            for path in (
                "/ui/models",
                "/ui/networks",
                "/sd_extra_networks/get-single-card?page=lora&tabname=txt2img&name=" + quote(name),
            ):
                answer = await home.ask("GET", path, home.headers["admin"])
                # A browser reads JSON's own escapes; what counts is the HTML inside.
                text = (
                    answer.json().get("html", "") if "json" in answer.headers["content-type"] else answer.body.decode()
                )
                assert "<img src=x" not in text
                found += "onerror=alert(1)" in text
            assert found >= 2
        finally:
            file.unlink()
            (folder / f"{name}.json").unlink()

    run(visit())


def test_a_prompt_is_no_html(home: House, run: Run) -> None:
    async def visit() -> None:
        from tests.jobs.support import a_request

        word = "<script>alert(1)</script>"
        job = await home.service.submit(a_request(word, model=""), owner="ann")
        await home.service.wait(job.id)
        page = await home.ask("GET", "/ui/gallery", home.headers["owner"])
        assert word not in page.body.decode()
        assert "&lt;script&gt;alert(1)" in page.body.decode()

    run(visit())


# -- 6: addresses of the inside: `test_addresses` --


def test_addresses_are_off_by_default(home: House, run: Run) -> None:
    async def visit() -> None:
        body = json.dumps({"image": "http://169.254.169.254/latest/meta-data/"}).encode()
        answer = await home.ask("POST", "/sdapi/v1/png-info", home.headers["owner"], body)
        assert (answer.status, answer.json()["detail"]) == (422, "Requests not allowed")

    run(visit())


# -- 7: CVE-2024-12029 and every .ckpt since: a model that runs --


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".pth", ".bin"])
def test_a_model_runs_nothing(tmp_path: Path, ending: str) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / f"x{ending}"
    for content in (
        pickle.dumps({"state_dict": Calls(os.system, f"touch {mark}")}),
        pickle.dumps(Calls(eval, f"open({str(mark)!r}, 'w')")),
    ):
        path.write_bytes(content)
        with pytest.raises(DanqingError) as caught:
            open_file_header(path)
        assert caught.value.code in ("model_unsafe", "model_broken")
        assert not mark.exists()


# -- CVE-2025-31114 (Fooocus): text that is handed to eval --

CODE = "__import__('os').system('touch /tmp/danqing-ran')"


def test_text_is_never_code(home: House, run: Run) -> None:
    async def visit() -> None:
        from danqing.prompt import emphasis, schedule
        from danqing.prompt.schedule import Timeline

        mark = Path("/tmp/danqing-ran")
        mark.unlink(missing_ok=True)
        emphasis.parse(f"(x:{CODE})")
        schedule.scheduled(f"[a:b:{CODE}]", Timeline(10))
        infotext.parameters(f"x\nSteps: {CODE}, Seed: {CODE}, Size: {CODE}")
        body = json.dumps({"prompt": CODE, "seed": CODE, "override_settings": {"jpeg_quality": CODE}}).encode()
        assert (await home.ask("POST", "/sdapi/v1/txt2img", home.headers["owner"], body)).status == 422
        assert not mark.exists()

    run(visit())


FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "marshal.loads",
}
FORBIDDEN |= {"torch.load", "subprocess.getoutput", "shelve.open", "numpy.load", "np.load"}


def test_the_house_runs_no_text_and_loads_no_pickle() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        if not any(word.rpartition(".")[2] in text for word in (*FORBIDDEN, "shell")):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            safe = given.get("weights_only") == "True" or given.get("allow_pickle") == "False"
            if (name in FORBIDDEN and not safe) or given.get("shell") == "True":
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {name}")
    assert not found, found

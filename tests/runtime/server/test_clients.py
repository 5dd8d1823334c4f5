"""Clients of other projects against the server, unchanged: `bash run.sh test --clients` installs all and runs this.

Where a client is not installed its test is skipped; the requests of clients that are no packages are written out.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.runtime.server.conftest import PICTURE, data_url, finished, serving, shown

QUESTION, ANSWER = "What color is the circle?", "The circle is red."
NODE = ROOT / "artifacts" / "clients"


def test_langchain(server):
    langchain = pytest.importorskip("langchain_openai", reason="bash run.sh test --clients installs it")
    from langchain_core.messages import HumanMessage, SystemMessage

    model = langchain.ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model="demo", max_retries=0)
    parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": data_url()}}]
    reply = model.invoke([HumanMessage(content=parts)])
    assert reply.content == ANSWER and reply.usage_metadata["output_tokens"] > 3
    assert reply.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in model.stream([HumanMessage(content=parts)])) == ANSWER
    assert model.invoke([SystemMessage("Answer briefly."), HumanMessage(content=parts)]).content
    usage = [chunk.usage_metadata for chunk in model.stream([HumanMessage(content=parts)], stream_usage=True)]
    assert any(usage)


def test_litellm(server):
    litellm = pytest.importorskip("litellm", reason="bash run.sh test --clients installs it")
    words = {"model": "openai/demo", "api_base": f"{server.url}/v1", "api_key": "none", "messages": shown(QUESTION)}
    reply = litellm.completion(**words)
    assert reply.choices[0].message.content == ANSWER and reply.usage.completion_tokens > 3
    pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**words, stream=True)]
    assert "".join(pieces) == ANSWER
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**words | {"messages": shown(QUESTION, "data:image/png;base64,AAAA")})


def test_live_vlm_webui(server):
    """The class of NVIDIA's camera page that asks; its package's other parts need a camera."""
    try:
        place = importlib.metadata.distribution("live-vlm-webui").locate_file("live_vlm_webui/vlm_service.py")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("bash run.sh test --clients installs it")
    spec = importlib.util.spec_from_file_location("vlm_service", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def ask() -> str:
        service = module.VLMService("demo", f"{server.url}/v1", prompt=QUESTION, max_tokens=32)
        with Image.open(PICTURE) as image:
            text = await service.analyze_image(image.convert("RGB"))
        await service.client.close()
        return text

    said = finished(ask())
    assert said and not said.startswith("Error")  # it samples: temperature 0.7


@pytest.mark.parametrize("script", ["ai_sdk.mjs", "continue_adapters.mjs"])
def test_node_clients(server, script):
    if not shutil.which("node") or not (NODE / "node_modules").is_dir():
        pytest.skip("bash run.sh test --clients installs them")
    shutil.copy(ROOT / "tests" / "runtime" / "server" / script, NODE / script)
    done = subprocess.run(
        ["node", NODE / script, server.url, PICTURE, QUESTION], capture_output=True, text=True, timeout=60, cwd=NODE
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["whole"], said["streamed"], said["finish"]) == (ANSWER, ANSWER, "stop")


def test_llama_cpp_requests(server):
    """Its web page: `/props`, then a stream with its own options and an image; reads `timings`."""
    props = server.http.get("/props").json()
    assert props["modalities"]["vision"] is True and props["default_generation_settings"]["n_ctx"] == 2048
    body = {
        "messages": [{"role": "system", "content": ""}, *shown(QUESTION)], "stream": True, "cache_prompt": True,
        "reasoning_format": "none", "samplers": "edkypmxt", "temperature": 0, "dynatemp_range": 0, "top_k": 40,
        "top_p": 0.95, "min_p": 0.05, "typical_p": 1, "repeat_penalty": 1, "presence_penalty": 0, "max_tokens": -1,
        "frequency_penalty": 0, "timings_per_token": True, "return_progress": True, "backend_sampling": False,
    }  # fmt: skip
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == ANSWER
    assert {"prompt_n", "prompt_ms", "predicted_n", "predicted_ms"} <= set(chunks[-1]["timings"])


def test_home_assistant_requests(server):
    """It probes with tools and three tokens when it is set up, then talks with its tools on offer."""
    tools = [
        {"type": "function", "function": {"name": "HassTurnOn", "parameters": {"type": "object", "properties": {}}}}
    ]
    probe = server.chat("ping", max_tokens=3, tools=tools)
    assert probe.status_code == 200 and probe.json()["usage"]["completion_tokens"] <= 3
    body = {"tools": tools, "tool_choice": "auto", "parallel_tool_calls": False, "stream": True, "user": "x"}
    body |= {"stream_options": {"include_usage": True}, "max_completion_tokens": 150, "top_p": 1.0, "temperature": 0}
    messages = [{"role": "system", "content": "You are a voice assistant."}, *shown(QUESTION)]
    with server.http.stream("POST", "/v1/chat/completions", json=body | {"messages": messages}) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert all(isinstance(chunk["choices"], list) for chunk in chunks) and chunks[-1]["usage"]["total_tokens"] > 150


def test_frigate_requests(server):
    """It reads the context's size from the list of models, and sends several thumbnails of one event."""
    (model,) = server.http.get("/v1/models").json()["data"]
    assert model["max_model_len"] == 2048
    messages = shown("Describe what happens.", data_url(), data_url())
    reply = server.chat(messages, model=model["id"], max_tokens=32).json()
    assert reply["choices"][0]["message"]["content"] and reply["usage"]["prompt_tokens"] > 288


def test_ollama_requests(server):
    assert server.http.get("/api/tags").json()["models"][0]["name"] == "demo"
    image = data_url().partition(",")[2]
    body = {"model": "demo", "messages": [{"role": "user", "content": QUESTION, "images": [image]}]}
    lines = [json.loads(line) for line in server.http.post("/api/chat", json=body).text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == ANSWER
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    whole = server.http.post("/api/chat", json=body | {"stream": False, "options": {"num_predict": 2}}).json()
    assert whole["done_reason"] == "length" and whole["eval_count"] == 2


def test_conformance_of_llm_comply(demo_fp32):
    """Nine tests; a call of a tool by name is what this model cannot do, and its server refuses."""
    if importlib.util.find_spec("llm_comply") is None:
        pytest.skip("bash run.sh test --clients installs it")
    with serving("--engine", f"demo={demo_fp32}", "--strict") as server:
        command = Path(sys.executable).with_name("llm-comply")
        words = ["run", "-u", f"{server.url}/v1", "-k", "none", "-m", "demo", "--format", "openai-chat", "--json"]
        done = subprocess.run([command, *words], capture_output=True, text=True, timeout=120)
    results = {one["id"]: one["status"] for one in json.loads(done.stdout)["results"]}
    failed = {name for name, status in results.items() if status == "failed"}
    assert len(results) == 9 and len(failed) <= 1 and all("tool" in name for name in failed), results


def test_requests_of_schemathesis(demo_fp32, tmp_path):
    """Requests made from the description of the API: statuses, types and bodies are the described ones."""
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("bash run.sh test --clients installs it")
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    with serving("--engine", f"demo={demo_fp32}", "--strict") as server:
        command = Path(sys.executable).with_name("schemathesis")
        words = [
            "run",
            f"{server.url}/openapi.json",
            "--max-examples",
            "50",
            "--checks",
            ",".join(checks),
        ]
        words += ["--seed", "1"]
        done = subprocess.run(  # it keeps what fails in the working directory
            [command, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert done.returncode == 0 and counted, done.stdout
    print(f"schemathesis: {counted[1]} requests, {counted[2]} passed")
    assert counted[1] == counted[2] and int(counted[1]) > 200


def test_checks_of_ai_api_scanner(demo_fp32, tmp_path):
    """Its checks of a server with keys; over http it warns, and without --rate-limit it sees none."""
    if importlib.util.find_spec("ai_api_scanner") is None:
        pytest.skip("bash run.sh test --clients installs it")
    keys = tmp_path / "keys"
    keys.write_text("a-key-that-nobody-guesses\n")
    with serving("--engine", f"demo={demo_fp32}", "--strict", "--api-key-file", keys) as server:
        command = Path(sys.executable).with_name("ai-api-scanner")
        words = [f"{server.url}/v1", "--key", keys.read_text().strip(), "--json", "--quiet"]
        done = subprocess.run([command, *words], capture_output=True, text=True, timeout=300)
    results = {one["rule_id"]: one["status"] for one in json.loads(done.stdout)["results"]}
    print("ai-api-scanner:", ", ".join(f"{status} {name}" for name, status in results.items()))
    fell_short = {name for name, status in results.items() if status not in ("PASS", "SKIP")}
    assert len(results) == 12 and fell_short <= {"rate-limit", "tls"}, results

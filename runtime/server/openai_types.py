"""Requests of OpenAI's chat API as clients send them. Fields that are not named here are taken and ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _no_surrogates(value: Any) -> Any:
    """Refuses text that is no Unicode: JSON's escapes can spell half a character."""
    if isinstance(value, str) and not value.isascii():  # an image's megabytes of base64 are
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("has half of a surrogate pair, which is no character") from None
    return value


Text = Annotated[str, BeforeValidator(_no_surrogates)]


class Lenient(BaseModel):
    """A JSON object whose other fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class ImageUrl(Lenient):
    """An image: a `data:` URL, or a remote one where the server allows it."""

    url: Text


class TextPart(Lenient):
    """Text in a message."""

    type: Literal["text", "input_text"]
    text: Text


class ImagePart(Lenient):
    """An image in a message."""

    type: Literal["image_url", "input_image"]
    image_url: ImageUrl | Text


class Message(Lenient):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart | ImagePart] | None = None


class JsonSchema(Lenient):
    """A named JSON schema."""

    name: Text = "answer"
    json_schema: dict[str, Any] | bool = Field(default_factory=dict, alias="schema")


class ResponseFormat(Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Lenient):
    """What a stream carries besides text."""

    include_usage: bool | None = None


class ChatRequest(Lenient):
    """Body of `POST /v1/chat/completions`."""

    model: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=-1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=-1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    seed: int | None = None
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None


class ChooseRequest(Lenient):
    """Body of `POST /v1/choose`: a closed question."""

    model: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    choices: Annotated[list[Text], Field(min_length=2, max_length=256)]

from exporter.errors import UpstreamError
from exporter.fal import errors
from exporter.fal.errors import REASONS, ApiError


def every_kind(kind: type[ApiError]) -> list[type[ApiError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in every_kind(child))]


def test_every_kind_has_its_own_reason_and_stands_in_the_tree() -> None:
    kinds = [kind for kind in every_kind(ApiError) if kind is not ApiError]
    assert sorted(kind.reason for kind in kinds) == sorted(REASONS)
    assert len(set(REASONS)) == len(REASONS)
    for kind in kinds:
        assert issubclass(kind, UpstreamError)
        assert kind.__name__ in (errors.__doc__ or "")
        if not kind.__subclasses__():
            assert f" {kind.reason} " in (errors.__doc__ or "")


def test_a_message_is_one_sentence_that_names_call_account_cause_request_and_advice() -> None:
    error = errors.ServerError("fal answered 500", account="prod", call="/models/usage", request_id="r-1")
    assert str(error).startswith("GET /models/usage of account 'prod' failed: fal answered 500 (request r-1); ")
    assert str(error).endswith(errors.ServerError.advice + ".")

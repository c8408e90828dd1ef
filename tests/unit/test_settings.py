"""Settings: which place wins, what is refused, and what a refusal says."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field

from rpckit import registry
from rpckit.errors import UsageError
from rpckit.settings import Settings, family_of, load_settings
from rpckit.transport import TransportOptions


class AmqpOptions(TransportOptions):
    heartbeat: int = Field(10, ge=0)


class ListOptions(TransportOptions):
    pop: str = "blmove"


class StreamOptions(TransportOptions):
    group: str = "rpckit"


MODELS: dict[str, type[TransportOptions]] = {
    "amqp": AmqpOptions,
    "amqps": AmqpOptions,
    "redis+list": ListOptions,
    "redis+stream": StreamOptions,
}


@pytest.fixture(autouse=True)
def transports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transports of the test's own, so that no driver is needed."""
    monkeypatch.setattr(registry, "known_schemes", lambda: sorted(MODELS))
    monkeypatch.setattr(registry, "load_transport", lambda scheme: SimpleNamespace(options_model=MODELS[scheme]))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and an environment without settings."""
    for variable in [name for name in os.environ if name.startswith("RPCKIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**arguments: object) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(**arguments)
    return str(caught.value)


# --- which place wins ------------------------------------------------------------------------


def test_defaults_without_any_place() -> None:
    settings = load_settings()
    assert (settings.url, settings.timeout, settings.concurrency) == ("amqp://localhost", 30.0, 100)
    assert settings.options_for("amqp") == {}


def test_arguments_over_environment_over_own_file_over_project_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text("[tool.rpckit]\ntimeout = 1\ngrace = 1\nsend_wait = 1\nconcurrency = 1\n")
    (folder / "rpckit.toml").write_text("timeout = 2\ngrace = 2\nsend_wait = 2\n")
    monkeypatch.setenv("RPCKIT_TIMEOUT", "3")
    monkeypatch.setenv("RPCKIT_GRACE", "3")
    settings = load_settings(timeout=4)
    assert (settings.timeout, settings.grace, settings.send_wait, settings.concurrency) == (4.0, 3.0, 2.0, 1)


def test_nearest_file_upwards_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rpckit.toml").write_text("timeout = 2\n")
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    assert load_settings().timeout == 2.0


def test_project_file_without_our_table_says_nothing(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert load_settings() == Settings()


def test_config_variable_names_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rpckit.toml").write_text("timeout = 2\n")
    (folder / "other.toml").write_text("timeout = 3\n")
    monkeypatch.setenv("RPCKIT_CONFIG", "other.toml")
    assert load_settings().timeout == 3.0


def test_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_URL", "")
    assert load_settings().url == "amqp://localhost"


def test_variables_of_the_tests_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_TEST_AMQP_URL", "amqp://localhost")
    assert load_settings().url == "amqp://localhost"


@pytest.mark.parametrize("word", ["none", "None"])
def test_timeout_none_is_for_ever(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_TIMEOUT", word)
    assert load_settings().timeout is None


# --- options of transports -------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme,family",
    [
        ("amqp", "amqp"),
        ("amqps", "amqp"),
        ("rediss+stream", "redis"),
        ("redis", "redis"),
        ("wss", "websocket"),
    ],
)
def test_schemes_share_the_table_of_their_family(scheme: str, family: str) -> None:
    assert family_of(scheme) == family


def test_options_of_a_family_are_merged_by_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rpckit.toml").write_text('[amqp]\nheartbeat = 5\nconnect_timeout = 1\ndialect = "plain"\n')
    monkeypatch.setenv("RPCKIT_AMQP_HEARTBEAT", "7")
    settings = load_settings(transports={"amqp": {"dialect": "native"}})
    options = AmqpOptions.model_validate(settings.options_for("amqps"))
    assert (options.heartbeat, options.connect_timeout, options.dialect) == (7, 1.0, "native")


def test_scheme_gets_only_the_options_it_knows(folder: Path) -> None:
    (folder / "rpckit.toml").write_text('[redis]\npop = "blmpop"\ngroup = "g"\n')
    assert load_settings().options_for("redis+list") == {"pop": "blmpop"}
    assert load_settings().options_for("redis+stream") == {"group": "g"}


def test_unknown_option_names_place_and_known_ones(folder: Path) -> None:
    (folder / "rpckit.toml").write_text("[amqp]\nheartbeet = 5\n")
    assert refusal() == (
        "unknown setting amqp.heartbeet in rpckit.toml. Did you mean amqp.heartbeat? "
        "Known: connect_timeout, dialect, heartbeat"
    )


def test_bad_option_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_AMQP_HEARTBEAT", "-1")
    assert refusal() == "RPCKIT_AMQP_HEARTBEAT: should be greater than or equal to 0"


def test_family_without_its_driver_is_left_to_whoever_opens_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> object:
        raise UsageError('pip install "rpckit[amqp]"')

    monkeypatch.setattr(registry, "load_transport", missing)
    (folder / "rpckit.toml").write_text("[amqp]\nheartbeat = 5\n")
    assert load_settings().transports == {"amqp": {"heartbeat": 5}}


# --- profiles --------------------------------------------------------------------------------

PROFILES = """
timeout = 1
[amqp]
heartbeat = 5
connect_timeout = 1
[profiles.staging]
timeout = 2
[profiles.staging.amqp]
heartbeat = 6
[profiles.live]
timeout = 3
"""


def test_profile_overrides_the_rest_of_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rpckit.toml").write_text(PROFILES)
    monkeypatch.setenv("RPCKIT_PROFILE", "staging")
    settings = load_settings()
    assert settings.timeout == 2.0
    assert settings.options_for("amqp") == {"heartbeat": 6, "connect_timeout": 1}


def test_profile_can_be_an_argument_or_stand_in_the_file(folder: Path) -> None:
    (folder / "rpckit.toml").write_text('profile = "live"\n' + PROFILES)
    assert load_settings().timeout == 3.0
    assert load_settings(profile="staging").timeout == 2.0


def test_variables_win_over_a_profile_unless_an_argument_chose_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rpckit.toml").write_text(PROFILES)
    monkeypatch.setenv("RPCKIT_TIMEOUT", "9")
    monkeypatch.setenv("RPCKIT_PROFILE", "staging")
    assert load_settings().timeout == 9.0
    assert load_settings(profile="staging").timeout == 2.0
    assert load_settings(profile="staging", timeout=3).timeout == 3.0


def test_unknown_profile_lists_the_known_ones(folder: Path) -> None:
    (folder / "rpckit.toml").write_text(PROFILES)
    assert refusal(profile="lve") == "unknown profile 'lve'. Known: live, staging"


def test_profile_without_any_file_says_so() -> None:
    assert "no file has a table [profiles.live]" in refusal(profile="live")


def test_typo_in_a_profile_not_chosen_is_found(folder: Path) -> None:
    (folder / "rpckit.toml").write_text("[profiles.live]\ntimeuot = 3\n")
    assert "timeuot in [profiles.live] of rpckit.toml. Did you mean timeout?" in refusal()


# --- refusals --------------------------------------------------------------------------------


def test_unknown_key_names_place_and_known_ones(folder: Path) -> None:
    (folder / "rpckit.toml").write_text("timeot = 3\n")
    text = refusal()
    assert text.startswith("unknown setting timeot in rpckit.toml. Did you mean timeout? Known: amqp.<option>, ")
    assert "transports" not in text
    (folder / "rpckit.toml").write_text("[ampq]\nheartbeat = 3\n")
    assert refusal().startswith("unknown setting ampq in rpckit.toml. Did you mean amqp? Known: ")


def test_unknown_variable_is_spelt_as_variables_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_TIMEOT", "3")
    assert refusal().startswith("unknown setting RPCKIT_TIMEOT. Did you mean RPCKIT_TIMEOUT?")


def test_unknown_argument_is_refused() -> None:
    assert refusal(colour="red").startswith("unknown setting colour in the arguments. Known: ")


def test_bad_value_names_place_and_problem_but_not_the_value(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.rpckit]\nmax_body = "s3cret"\n')
    text = refusal()
    assert text.startswith("max_body in [tool.rpckit] of pyproject.toml: should be a valid integer")
    assert "s3cret" not in text


def test_strongest_place_is_blamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rpckit.toml").write_text("grace = 3\n")
    monkeypatch.setenv("RPCKIT_GRACE", "soon")
    assert refusal().startswith("RPCKIT_GRACE: ")


@pytest.mark.parametrize("url", ["amqp://u:s3cret@h:99999", "u:s3cret@host"])
def test_bad_url_is_refused_without_its_password(url: str) -> None:
    text = refusal(url=url)
    assert text.startswith("url in the arguments: ")
    assert "s3cret" not in text


def test_repr_hides_the_password() -> None:
    settings = load_settings(url="amqp://u:s3cret@h")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)
    assert "amqp://u:***@h" in repr(settings)
    assert settings.url == "amqp://u:s3cret@h"


def test_invalid_toml_names_the_file(folder: Path) -> None:
    (folder / "rpckit.toml").write_text("timeout = \n")
    assert refusal().startswith("rpckit.toml is not valid TOML: ")


def test_missing_config_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPCKIT_CONFIG", "gone.toml")
    assert refusal() == "the settings in gone.toml cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "text,said",
    [
        ("amqp = 3\n", "amqp in rpckit.toml must be a table"),
        ("profiles = 3\n", "profiles in rpckit.toml must be a table"),
        ("[profiles]\nlive = 3\n", "[profiles.live] of rpckit.toml must be a table"),
    ],
)
def test_what_must_be_a_table(folder: Path, text: str, said: str) -> None:
    (folder / "rpckit.toml").write_text(text)
    assert refusal() == said


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().timeout = 3

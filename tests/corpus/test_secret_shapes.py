"""Common shapes of secrets and addresses are found, code that resembles them stays, and
no text makes the search slow.
"""

from __future__ import annotations

import random
import re
import string
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from sevenfold.corpus.steps import secrets
from sevenfold.corpus.steps.issued_tokens import ISSUED

_RANDOM = random.Random(7)


def letters(n: int, of: str = string.ascii_letters + string.digits) -> str:
    return "".join(_RANDOM.choice(of) for _ in range(n))


HEX = "0123456789abcdef"
BODY = "\n".join(letters(64, string.ascii_letters + string.digits + "+/") for _ in range(8))
AWS_ID = "AKIA" + letters(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "zEq3K9pLtZ"


def key(kind: str, head: str = "") -> str:
    return f"-----BEGIN {kind}-----\n{head}{BODY}\n-----END {kind}-----"


# What has to go -> the text around it, a %s in its place.
SHAPES = {
    "env": ("API_TOKEN=%s", letters(32, HEX + "ghijk")),
    "env secret": ("export CLIENT_SECRET=%s\nX=1", letters(40)),
    "env password": ("DB_PASSWORD=%s\n", "Tr0ub4dor&3x"),
    "yaml": ("  api_key: %s\n", "9f8a7b6c5d4e3f2a1b0c9d8e7f6a"),
    "ini": ("[default]\naws_secret_access_key = %s\n", AWS_SECRET),
    "beside its id": (f"aws {AWS_ID} %s\n", AWS_SECRET),
    "on the next line": (f'key("{AWS_ID}",\n    "%s")\n', AWS_SECRET),
    "json": ('{"password": "%s"}', "c0rrect-Horse!9"),
    "walrus": ('token := "%s"', letters(30)),
    "ruby": ("'secret' => '%s'", letters(30)),
    "url": ("postgres://admin:%s@db.internal.company.com/x", "S3cr3t!pass"),
    "pgp": ("%s", BODY),
    "openai": ("client(%s)", "sk-" + letters(48)),
    "openai project": ("%s", "sk-proj-" + letters(60) + "_" + letters(20)),
    "anthropic": ("x-api-key %s", "sk-ant-api03-" + letters(93) + "AA"),
    "huggingface": ("login('%s')", "hf_" + letters(34)),
    "github": ("%s", "ghp_" + letters(36)),
    "slack app": ("%s",
        f"xapp-1-A{letters(10, string.ascii_uppercase)}-{letters(13, string.digits)}-{letters(64, HEX)}"),
    "slack webhook": ("https://%s", f"hooks.slack.com/services/T{letters(8)}/B{letters(8)}/{letters(24)}"),
    "stripe test": ("%s", "sk_test_" + letters(24)),
    "sendgrid": ("%s", f"SG.{letters(22)}.{letters(43)}"),
    "telegram": ("bot%s/getMe".replace("bot", "bot "), "123456789:AA" + letters(33)),
    "google": ("%s", "GOCSPX-" + letters(28)),
    "vault": ("%s", "hvs." + letters(95)),
    "digitalocean": ("%s", "dop_v1_" + letters(64, HEX)),
    "go": ('var apiToken string = "%s"', letters(32, HEX + "xyz")),
    "typescript": ("const authToken: string = '%s';", letters(30)),
    "rust": ('const API_KEY: &str = "%s";', letters(40)),
    "php": ('$apiToken .= "%s"', letters(30)),
    "make": ("API_TOKEN ?= %s\n", letters(30)),
    "make immediate": ("API_TOKEN ::= %s\n", letters(30)),
    "xml": ("<accessToken>\n    %s\n</accessToken>", letters(32)),
    "hexadecimal": ('auth_key = "%s"', "8c4fa2815d2802827283e0ad84173581"),
    "log": ("login user:master password:%s ok", "dipPr10Gg!"),
    "command line": ("mysql -u root --password %s\n", "Sne3sd8AZjq"),
    "powershell": ("Connect -Password '%s'", "Sjdn43ss@!"),
    "curl": ("curl -s --user 'api:%s' https://a.b", "d2LkV78zLx!t"),
    "sql": ("ALTER USER joe WITH PASSWORD '%s';", "SqLpa5sW0rD"),
    "mysql": ("CREATE USER joe IDENTIFIED BY '%s';", "SqLpa5sW0rD"),
    "header": ("Authorization: Bearer %s\n", letters(40)),
    "json web key": ('{"kty": "EC", "crv": "P-256", "d": "%s"}', letters(43)),
    "azure secret": ("client_srt = %s;", "qpF8Q~" + letters(34)),
    "sourcegraph": ("%s", "sgp_" + letters(40, HEX)),
    "private key in base64": ("%s", "LS0tLS1CRUdJTiBSU0EgUFJJ" + letters(400)),
    "facebook": ("%s", "EAACEdEose0cBA" + letters(80)),
    "twilio": ("%s", "SK" + letters(32, HEX)),
    "mailchimp": ("%s", letters(32, HEX) + "-us12"),
    "new relic": ("%s", letters(36, HEX) + "NRAL"),
    "pinecone": ("%s", f"pcsk_{letters(6)}_{letters(60)}"),
    "langfuse": ("%s", "sk-lf-4f7a1c2e-0a1b-4c3d-9e8f-0123456789ab"),
    "langsmith": ("%s", f"lsv2_pt_{letters(32, HEX)}_{letters(10, HEX)}"),
    "jina": ("%s", "jina_" + letters(60)),
    "cloudflare origin": ("%s", f"v1.0-{letters(24, HEX)}-{letters(146, HEX)}"),
    "1password": ("%s", "A3-ABC123-ABCDE12345F-AB1CD-2EF3G-H4JK5"),
    "docker in a cluster": ("dockerconfigjson: %s", "eyJhdXRocyI6" + letters(80)),
    "docker": ('"auths": {"x": {"auth": "%s"}}', "amFuZTpoNG50ZXIyIXp4OQ=="),
    "wandb": ("wandb login %s", letters(40, HEX)),
    "npm": ("_auth=%s", letters(40)),
    "django": ("SECRET_KEY = 'django-insecure-%s'", "&w0=bo(#w6o=yx(ws$kox=ap^k5qmi!4+7@2k+zqy+!zfny^gn"),
    "header in a command": ("curl -H 'X-Api-Key: %s' x", letters(40)),
    "admin key": ("algolia_admin_key = '%s'", "9f6c0f68e2ec9af6b372226d36755925"),
    "sshpass": ("sshpass -p '%s' ssh x", "Zx9!kLmq2w"),
    "mysql flag": ("mysql -u root -p%s db", "Zx9kLmq2wB"),
    "element": ("<password>%s</password>", "Zx9!kLmq2wB"),
    "secure string": ("ConvertTo-SecureString '%s' -AsPlainText", "Zx9!kLmq2wB"),
    "argument": ('user.set_password("%s")', "Zx9!kLmq2wB"),
    "name that ends so": ("db_pass = '%s'", "Zx9!kLmq2wB"),
    "container": ("ENV API_KEY %s\n", letters(40)),
    "azure": ("DefaultEndpointsProtocol=https;%s;", "AccountKey=" + letters(86) + "=="),
}  # fmt: skip
KEYS = (
    key(
        "RSA PRIVATE KEY",
        "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\n",
    ),
    key("ENCRYPTED PRIVATE KEY"),
    key("OPENSSH PRIVATE KEY"),
    key("EC PRIVATE KEY"),
    key("PRIVATE KEY"),
    key("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2.0.22\nComment: a-b - c\n\n").replace(
        "\n-----END", "\n=aB3d\n-----END"
    ),
    key("RSA PRIVATE KEY").replace("\n", "\\n"),
    key("RSA PRIVATE KEY").replace("\n", '\\n" +\n    "'),
    key("RSA PRIVATE KEY").replace("\n", "\r\n"),
    key("RSA PRIVATE KEY").partition("-----END")[0],
    f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{BODY}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 8\n{BODY}\nPrivate-MAC: x",
)
ADDRESSES = (
    "ana.petrovic@firma.rs",
    "ion@primaria.md",
    "maria@empresa.com.py",
    "jan@firma.pl",
    "x.y@sub.domain.co.uk",
    "joe+news@mail.sh",
    "someone@uni-bonn.de",
    "o'neil@firma.rs"[2:],
    "A_B%c@mail.museum",
    "j\u00f6rg@m\u00fcller.de",
)
# Other data of a person, and what only looks like it.
PERSONAL = (
    "jane.doe [at] gmail.com",
    "jane(at)corp(dot)io",
    "tel:+14155552671",
    '"+14155552671"',
    "378282246310005",
    "3782 822463 10005",
    "6011 0009 9013 9424",
    "DK50 0040 0440 1162 43",
    "SE4550000000058398257466",
    "PT50 0002 0123 1234 5678 9015 4",
)
NOT_PERSONAL = (
    "x +14155552671",
    "378282246310006",
    "a[at]b",
    "SE4550000000058398257467",
    "hotel:12",
    "f(at).x",
)


@pytest.mark.parametrize(("around", "value"), SHAPES.values(), ids=SHAPES)
def test_a_secret_of_a_common_shape_is_found(around: str, value: str) -> None:
    text = (
        f"before\n{around % value if around != '%s' or value != BODY else key('PGP PRIVATE KEY BLOCK')}\n"
        f"after\n"
    ).encode()
    found = b" ".join(text[start:end] for start, end, _ in secrets.find(text, secrets._SECRETS))
    assert value.encode()[:60] in found


@pytest.mark.parametrize("text", KEYS, ids=range(len(KEYS)))
def test_a_private_key_of_any_form_is_found(text: str) -> None:
    spans = secrets.find(text.encode(), secrets._SECRETS)
    left = text.encode()
    for start, end, _ in reversed(spans):
        left = left[:start] + left[end:]
    assert {kind for _, _, kind in spans} == {"private_key"}
    assert not any(line.encode() in left for line in BODY.splitlines())


@pytest.mark.parametrize("text", PERSONAL)
def test_data_of_a_person_in_another_form_is_found(text: str) -> None:
    data = f"# {text} \n".encode()
    assert [data[start:end].strip(b'"') for start, end, _ in secrets.find(data, secrets.PERSONAL)] == [
        text.removeprefix("tel:").strip('"').encode()
    ]


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_looks_like_data_of_a_person_stays(text: str) -> None:
    assert secrets.find(f"# {text} \n".encode(), secrets.PERSONAL) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_in_any_country_is_found(address: str) -> None:
    text = f"by <{address}>, or mailto:{address}.\n".encode()
    assert [text[start:end].decode() for start, end, _ in secrets.find(text, secrets.PERSONAL)] == [
        address
    ] * 2


@pytest.mark.parametrize(
    "text",
    [
        "token = get_token()",
        '"NextToken": "abCDeFGhiJKlmnOPqrSTuvwxYZ1aBCdEFghijK7LM51nOpq"',
        "list --next-page-token 9f4d9f69-275a-41fe-b58e-2b837bd9ba48",
        '"AWS::IAM::AccessKey": "62d91b17309e76c8"',
        "pass: int = 3",
        "if pw==Config1.Default2: pass",
        "password=settings.Db2Password",
        "pass=https://Host1.firm.com:8080/x",
        "Authorization: Bearer YOUR_TOKEN_GOES_HERE",
        "'-----BEGIN RSA PRIVATE KEY-----' and the lines up to '-----END RSA PRIVATE KEY-----'",
        "password = os.environ['DB_PASSWORD']",
        "api_key=settings.API_KEY_2",
        "secret: str = field()",
        "token = self.tokens[i+1]",
        "password: Optional[str] = None",
        "PASSWORD=changeme123",
        "API_KEY=your-api-key-here-123",
        "token = 'test_user_token'",
        "task-0123456789abcdef0123456789abcdef0123",
        "a.sk-foo",
        "postgres://user:password@host/db",
        "http://{user}:{password}@host",
        "sha1: da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "icon@2x.png",
        "a@b.py",
        "@pytest.fixture",
        "key-frames",
        "secret_key_base64_of_the_module = 1",
        "tokens: list[int]",
        "-----BEGIN PUBLIC KEY-----",
        f"commit {letters(40, HEX)}",
        "token = hashlib.sha256(b'').hexdigest()",
        "private_key=ed25519.Ed25519PrivateKey",
    ],
)
def test_code_that_resembles_a_secret_stays(text: str) -> None:
    assert secrets.find(f"x\n{text}\ny\n".encode(), (*secrets._SECRETS, *secrets.PERSONAL)) == []


# Cost


def _repeats(tree: Any) -> Any:
    """Every repetition of a parsed pattern, with whether it is inside another."""
    for op, argument in tree:
        if op in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT):
            yield argument
            yield from _repeats(argument[2])
        elif op is opcodes.SUBPATTERN:
            yield from _repeats(argument[3])
        elif op in (opcodes.ASSERT, opcodes.ASSERT_NOT):
            yield from _repeats(argument[1])
        elif op is opcodes.BRANCH:
            for branch in argument[1]:
                yield from _repeats(branch)


@pytest.mark.parametrize("pattern", secrets._ALL, ids=lambda pattern: pattern.kind)
def test_no_pattern_repeats_without_a_bound(pattern: secrets.Pattern) -> None:
    for regex in (pattern.regex, pattern.before):
        if regex is not None:
            assert all(
                most is not opcodes.MAXREPEAT
                for _, most, _ in _repeats(parser.parse(regex.pattern, regex.flags))
            )


class _Counted(list[tuple[int, int, str]]):
    """A list that counts how often one of its members is looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        _Counted.looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("text", [b"ab@mail.de ", b"ab@mail.de\n+49 (30) 1234 5678 ", b"4539148803436467 "])
def test_work_grows_with_the_number_of_matches(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = secrets.bisect_left
    looks: list[int] = []

    def counted(spans: list[Any], wanted: Any) -> int:
        # A search among n takes log n looks; what stood here looked at all n.
        looks.append(len(spans).bit_length())
        return real(spans, wanted)

    monkeypatch.setattr(secrets, "bisect_left", counted)
    work = []
    for n in (500, 2000):
        looks.clear()
        assert len(secrets.find(text * n, secrets.PERSONAL)) == n * text.count(b" ") // max(
            1, text.count(b" ")
        ) * (1 if text.count(b"+") == 0 else 2)
        work.append(sum(looks))
    assert work[1] <= 6 * max(work[0], 1)


def test_every_prefix_is_a_needle() -> None:
    assert all(len(prefix) >= 3 for _, prefix, _ in ISSUED)
    assert {re.escape(prefix.lower()) for _, prefix, _ in ISSUED} <= {
        re.escape(needle.decode()) for needle in secrets._NEEDLES.all
    }

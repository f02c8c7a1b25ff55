import base64
import datetime
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from keep_operator.sandbox import kubeconfig
from keep_operator.sandbox.certificates import REQUIRED, Authority, Identity

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("cluster") / "pki")
    assert authority.ensure()
    return authority


def load(authority: Authority, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.file(name).read_bytes())


def test_certificates_are_kept_over_restarts(authority: Authority) -> None:
    """A kubeconfig handed out yesterday works today."""
    before = {name: authority.file(name).read_bytes() for name in REQUIRED}
    assert not authority.ensure()
    assert {name: authority.file(name).read_bytes() for name in REQUIRED} == before


def test_a_half_made_set_is_made_anew(tmp_path: Path) -> None:
    """Ctrl-C while the keys are made does not spoil the folder for ever."""
    authority = Authority(tmp_path / "pki")
    authority.ensure()
    before = authority.ca
    authority.file("service-account.key").unlink()
    assert authority.ensure()
    assert authority.ca != before


def test_private_keys_are_the_owners_alone(authority: Authority) -> None:
    """Another user of the machine can be no administrator of the sandbox."""
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in authority.folder.iterdir()} == {0o600}


def test_certificates_outlive_the_sandbox(authority: Authority) -> None:
    """A sandbox that was made a year ago still starts."""
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3650)
    for name in ("ca.crt", "server.crt", "etcd-ca.crt", "etcd-server.crt", "etcd-client.crt"):
        assert load(authority, name).not_valid_after_utc > later
    client = x509.load_pem_x509_certificate(authority.client(Identity("x")).certificate)
    assert client.not_valid_after_utc > later


def test_the_server_is_who_clients_call(authority: Authority) -> None:
    """By address from outside, by service name from inside."""
    names = load(authority, "server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} >= {"127.0.0.1", "localhost", "kubernetes.default.svc"}


def test_the_operator_has_a_name_and_no_group(authority: Authority) -> None:
    """What it may do comes from its own roles alone; a group would smuggle in others."""
    subject = x509.load_pem_x509_certificate(authority.client(kubeconfig.OPERATOR).certificate).subject
    assert subject.rfc4514_string() == "CN=keep-operator"


def test_the_administrator_is_in_the_group_that_may_do_everything(authority: Authority) -> None:
    """The sandbox's owner is never locked out, not even by a broken role."""
    subject = x509.load_pem_x509_certificate(authority.client(kubeconfig.ADMIN).certificate).subject
    assert subject.rfc4514_string() == "CN=admin,O=system:masters"


def test_users_of_the_cluster_are_strangers_to_its_store(authority: Authority) -> None:
    """A developer's certificate opens no way around the API server."""
    client = x509.load_pem_x509_certificate(authority.client(kubeconfig.DEVELOPER).certificate)
    client.verify_directly_issued_by(load(authority, "ca.crt"))
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        client.verify_directly_issued_by(load(authority, "etcd-ca.crt"))
    assert not authority.file("etcd-ca.key").exists()


def test_a_credential_does_not_show_itself(authority: Authority) -> None:
    """A key must not stand in a traceback."""
    assert repr(authority.client(Identity("x"))) == "Credential(***)"


def test_a_kubeconfig_holds_everything_and_is_its_owners_alone(authority: Authority, tmp_path: Path) -> None:
    """It can be copied to another folder and works there; nobody else can read it."""
    credential = authority.client(kubeconfig.DEVELOPER)
    text = kubeconfig.render("https://127.0.0.1:6443", authority.ca, kubeconfig.DEVELOPER, credential)
    target = kubeconfig.path(tmp_path, "developer")
    kubeconfig.write(target, text)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert kubeconfig.server(target) == "https://127.0.0.1:6443"
    content = yaml.safe_load(text)
    (cluster,), (user,), (context,) = content["clusters"], content["users"], content["contexts"]
    assert content["current-context"] == context["name"] == "developer@keep-operator-sandbox"
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    trust = ssl.create_default_context(
        cadata=base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode("ascii")
    )
    pair = tmp_path / "pair.pem"
    parts = (user["user"]["client-certificate-data"], user["user"]["client-key-data"])
    pair.write_bytes(b"".join(base64.b64decode(part) for part in parts))
    trust.load_cert_chain(pair)


def test_a_missing_kubeconfig_names_no_server(tmp_path: Path) -> None:
    """Before the first start there is none."""
    assert kubeconfig.server(tmp_path / "none") is None

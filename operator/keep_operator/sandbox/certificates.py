"""The certificates and keys of a sandbox's control plane: two authorities of its own, never trusted by the system.

One signs the API server and its users, the other etcd and its only client, so that no user of the cluster can
reach the cluster's store. They stay valid for the life of the folder (trustme dates them to the year 3000), and
are kept over restarts, so that a kubeconfig handed out once goes on working.
"""

import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keep_operator.sandbox import cache

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# The API server's own, and those that pods know it by: the first of the services' addresses, and its names.
ADDRESSES: Final = ("127.0.0.1", "localhost", "10.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ORGANISATION: Final = "keep-operator sandbox"
PAIRS: Final = ("ca", "server", "etcd-server", "etcd-client")
REQUIRED: Final = (*(f"{name}.{end}" for name in PAIRS for end in ("crt", "key")), "etcd-ca.crt", "service-account.key")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client certificate says its holder is: Kubernetes reads CN as the user and each O as a group."""

    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, PEM. Its repr shows neither."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Credential(***)"


class Authority:
    """The certificates in one folder (mode 0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        """The path of one file, such as ``server.crt``."""
        return self.folder / name

    @property
    def ca(self) -> bytes:
        """The certificate, PEM, by which clients recognise the API server."""
        return self.file("ca.crt").read_bytes()

    def ensure(self) -> bool:
        """Makes everything that the servers need, unless it is all there; says whether it made it. Safe to repeat."""
        if all(self.file(name).is_file() for name in REQUIRED):
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        import trustme  # noqa: PLC0415  (70 ms: only a start needs it)
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        cluster = trustme.CA(organization_name=ORGANISATION, organization_unit_name="control plane")
        self._keep("ca", Credential(cluster.cert_pem.bytes(), cluster.private_key_pem.bytes()))
        store = trustme.CA(organization_name=ORGANISATION, organization_unit_name="etcd")
        self._write("etcd-ca.crt", store.cert_pem.bytes())  # its key is forgotten: nobody else will ever be let in
        for name, signer in (("server", cluster), ("etcd-server", store), ("etcd-client", store)):
            leaf = signer.issue_cert(*ADDRESSES, common_name=name, organization_name=ORGANISATION)
            self._keep(name, Credential(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()))
        self._write("service-account.key", _pem(ec.generate_private_key(ec.SECP256R1())))
        return True

    def client(self, identity: Identity) -> Credential:
        """A new client certificate for an identity, valid as long as the authority."""
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        authority = x509.load_pem_x509_certificate(self.ca)
        signer = serialization.load_pem_private_key(self.file("ca.key").read_bytes(), password=None)
        return signed_client(identity, authority, signer)

    def _keep(self, name: str, credential: Credential) -> None:
        self._write(f"{name}.crt", credential.certificate)
        self._write(f"{name}.key", credential.key)

    def _write(self, name: str, content: bytes) -> None:
        cache.write_atomically(self.file(name), content.decode("ascii"), mode=0o600)


def signed_client(identity: Identity, authority: "x509.Certificate", signer: object) -> Credential:
    """A client certificate that names the identity and nothing else.

    Made without trustme, which always adds an organisation: Kubernetes would read a group that was never given.
    """
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    assert isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, identity.user))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc + datetime.timedelta(seconds=1))
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Credential(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)

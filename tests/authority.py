"""A certificate authority for tests of TLS."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, with a certificate for the server and a client."""

    folder: Path

    def __post_init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        for owner in ("ca", "server", "client"):
            own = key if owner == "ca" else ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
            now = datetime.datetime.now(datetime.UTC)
            certificate = (
                x509.CertificateBuilder()
                .subject_name(name if owner == "ca" else subject)
                .issuer_name(name)
                .public_key(own.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(hours=1))
                .add_extension(x509.BasicConstraints(owner == "ca", None), critical=True)
                .add_extension(
                    x509.SubjectAlternativeName(
                        [
                            x509.DNSName("localhost"),
                            x509.DNSName("cxr.example.org"),
                            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                        ]
                    ),
                    critical=False,
                )
                .sign(key, hashes.SHA256())
            )
            pem = serialization.Encoding.PEM
            (self.folder / f"{owner}.pem").write_bytes(certificate.public_bytes(pem))
            (self.folder / f"{owner}.key").write_bytes(
                own.private_bytes(
                    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        read = {name: (self.folder / name).read_bytes() for name in ("server.key", "server.pem")}
        return grpc.ssl_server_credentials(
            [(read["server.key"], read["server.pem"])],
            root_certificates=(self.folder / "ca.pem").read_bytes() if mutual else None,
            require_client_auth=mutual,
        )

"""What the README's examples need of grpcurl, for machines without it. Not for use elsewhere.

    grpcurl -plaintext [-max-msg-sz N] [-d @] HOST:PORT (list | SERVICE/METHOD)

Like grpcurl it knows no contract: it asks the server's reflection for it.
"""

import sys
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

DEFAULT_MAX_MESSAGE_BYTES = 4 << 20


def call(channel: grpc.Channel, database: Any, target: str, request_json: str) -> str:
    """Make a unary call from and to JSON."""
    service, _, name = target.partition("/")
    method = DescriptorPool(database).FindServiceByName(service).FindMethodByName(name)
    request = json_format.Parse(request_json, GetMessageClass(method.input_type)())
    unary = channel.unary_unary(
        f"/{target}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return json_format.MessageToJson(unary(request, timeout=30))


def main(words: list[str]) -> int:
    max_message_bytes, request_json = DEFAULT_MAX_MESSAGE_BYTES, "{}"
    while words[0].startswith("-"):
        flag = words.pop(0)
        if flag == "-max-msg-sz":
            max_message_bytes = int(words.pop(0))
        elif flag == "-d":
            request_json = sys.stdin.read() if (value := words.pop(0)) == "@" else value
        elif flag != "-plaintext":
            sys.exit(f"unknown flag {flag}")
    address, target = words
    options = [("grpc.max_receive_message_length", max_message_bytes)]
    with grpc.insecure_channel(address, options=options) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if target == "list":
            print("\n".join(sorted(database.get_services())))
        else:
            print(call(channel, database, target, request_json))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A loopback server that speaks S3, for tests of buckets."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

MakeBucket = Callable[[], tuple[str, Mapping[str, Any]]]
"""Makes an empty bucket, and returns its URL and the options that reach it."""


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Run the server on a free port of the loopback interface."""
    from moto.server import ThreadedMotoServer  # here, since importing it takes a second

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def make_bucket(s3_endpoint: str) -> MakeBucket:
    """Return a function that makes an empty bucket."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", **keys)

    def make() -> tuple[str, Mapping[str, Any]]:
        name = f"bucket-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=name)
        options = {**keys, "endpoint": s3_endpoint, "region": "us-east-1"}
        return f"s3://{name}/studies/digits", {"config": options, "client_options": {"allow_http": True}}

    return make

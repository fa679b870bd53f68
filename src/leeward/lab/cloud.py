"""The lab's object store: moto's S3, with TLS, and with connections that are kept as real stores keep them.

`python -m leeward.lab.cloud ADDRESS PORT CERTIFICATE KEY BUCKET`. (moto's own server closes each connection after one
answer; on a line that breaks, a kept connection is where requests hang.) All is kept in memory, and is gone with it.
"""

from __future__ import annotations

import sys
import warnings

import uvicorn


def main(address: str, port: str, certificate: str, key: str, bucket: str) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are better bridges than uvicorn's own, it says; for this it will do
        from uvicorn.middleware.wsgi import WSGIMiddleware  # type: ignore[attr-defined]
    application = DomainDispatcherApplication(create_backend_app)
    # One request after the other: moto looks whether an object is there and then writes it, which has to be one deed.
    bridge = WSGIMiddleware(application, workers=1)
    _make_bucket(application, bucket)
    uvicorn.run(
        bridge,
        host=address,
        port=int(port),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="warning",
        timeout_keep_alive=60,
    )


def _make_bucket(application: object, bucket: str) -> None:
    from werkzeug.test import Client

    answer = Client(application).put(f"/{bucket}", headers={"Host": "s3.amazonaws.com"})  # type: ignore[arg-type]
    if answer.status_code != 200:
        raise SystemExit(f"no bucket: {answer.status}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The isolation matrix: which status each caller gets on each route for an object in each state. Declared, never computed.

A row is a method and a path as the URL map has it (`{c}` a conversation, `{m}` a message, `{b}` a branch), or one of
`VARIANTS`: the same route with a query or body that matters here. A route without a row, and a row without a route, fail the
suite. One number stands for all states.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

STATES = ["empty", "full", "archived", "resolved", "trash", "gone", "never", "temporary"]
STATES += ["key", "upper", "forked", "same", "odd", "mixed", "buried"]
"""The objects, all of Ada's at acme but for `same` and `mixed`:

- empty, full, archived, resolved, trash, gone (deleted permanently), never (a UUID that never was), temporary: the state it is in
- key, upper: a full one, addressed by its client id, by its id in capitals
- forked: with an answer to an older message, and a branch; buried: its message has been deleted
- same: the caller's own, addressed by a client id that Ada uses too, with a branch; a caller who can own nothing addresses
  Ada's

- odd: no id at all
- mixed: the caller's own conversation, but another user's message

Where there is no branch, `{b}` is the message, which one can switch to as well.
"""

VARIANTS = {
    "POST / +id": "create a conversation with the object's id",
    "GET / ?all": "list all, with messages",
    "GET / ?deleted": "list the trash",
    "PUT /{c} +force": "overwrite with a snapshot",
    "DELETE /{c} ?permanent": "delete for good",
    "GET /{c} ?before": "page, before the object's message",
    "GET /{c}/messages ?after": "page, after the object's message",
    "POST /{c}/messages +parent": "answer the object's message",
    "GET /{c} ?siblings": "page, with the siblings of its messages",
    "GET /{c}/messages ?siblings": "the same",
    "GET /{c}/messages ?branch": "page of the object's branch",
    "POST /{c}/fork +at": "fork at the object's message",
}

Table = dict[str, dict[str, int]]


def table(text: str) -> Table:
    """Rows `METHOD,METHOD /path status...` by method and path; in each the status by state."""
    found: Table = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        methods, _, rest = line.partition(" ")
        path, *statuses = rest.replace(" +", "~+").replace(" ?", "~?").split()
        values = [int(status) for status in statuses] * (len(STATES) if len(statuses) == 1 else 1)
        assert len(values) == len(STATES), f"{line!r} has {len(values)} of {len(STATES)} cells"
        for method in methods.split(","):
            row = f"{method} {path.replace('~', ' ')}"
            assert row not in found, f"{row} is declared twice"
            found[row] = dict(zip(STATES, values, strict=True))
    return found


OTHERS = table("""
OPTIONS                       /                          204
PUT,PATCH,DELETE              /                          405
OPTIONS                       /claim                     204
GET,HEAD,PUT,PATCH,DELETE     /claim                     405
GET,HEAD                      /openapi.json              200
OPTIONS                       /openapi.json              204
POST,PUT,PATCH,DELETE         /openapi.json              405
GET,HEAD                      /docs                      200
OPTIONS                       /docs                      204
POST,PUT,PATCH,DELETE         /docs                      405
GET,HEAD                      /static/<>                 200
OPTIONS                       /static/<>                 204
POST,PUT,PATCH,DELETE         /static/<>                 405
OPTIONS                       /{c}                       204
POST                          /{c}                       405
OPTIONS                       /{c}/archive               204
GET,HEAD,PUT,PATCH,DELETE     /{c}/archive               405
OPTIONS                       /{c}/unarchive             204
GET,HEAD,PUT,PATCH,DELETE     /{c}/unarchive             405
OPTIONS                       /{c}/resolve               204
GET,HEAD,PUT,PATCH,DELETE     /{c}/resolve               405
OPTIONS                       /{c}/restore               204
GET,HEAD,PUT,PATCH,DELETE     /{c}/restore               405
OPTIONS                       /{c}/messages              204
OPTIONS                       /{c}/ui-messages           204
PUT,PATCH,DELETE              /{c}/messages              405
POST,PUT,PATCH,DELETE /{c}/ui-messages 405
OPTIONS                       /{c}/messages/{m}          204
POST,PUT                      /{c}/messages/{m}          405
OPTIONS                       /{c}/messages/{m}/feedback 204
GET,HEAD,POST,PATCH,DELETE    /{c}/messages/{m}/feedback 405
OPTIONS                       /{c}/branches              204
PUT,PATCH,DELETE              /{c}/branches              405
OPTIONS                       /{c}/branches/{b}          204
GET,HEAD,POST,PUT,PATCH       /{c}/branches/{b}          405
OPTIONS                       /{c}/branches/{b}/switch   204
GET,HEAD,PUT,PATCH,DELETE     /{c}/branches/{b}/switch   405
OPTIONS                       /{c}/fork                  204
GET,HEAD,PUT,PATCH,DELETE     /{c}/fork                  405
GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS /no/such/path      404
OPTIONS                       /{c}/state 204
POST,PUT,PATCH,DELETE /{c}/state 405
OPTIONS                       /{c}/stream 204
POST,PUT,PATCH,DELETE /{c}/stream 405
OPTIONS                       /{c}/actions/send_message 204
GET,HEAD,PUT,PATCH,DELETE /{c}/actions/send_message 405
OPTIONS                       /{c}/actions/edit 204
GET,HEAD,PUT,PATCH,DELETE /{c}/actions/edit 405
OPTIONS                       /{c}/actions/regenerate 204
GET,HEAD,PUT,PATCH,DELETE /{c}/actions/regenerate 405
OPTIONS                       /{c}/actions/approve_tools 204
GET,HEAD,PUT,PATCH,DELETE /{c}/actions/approve_tools 405
OPTIONS                       /{c}/actions/cancel 204
GET,HEAD,PUT,PATCH,DELETE /{c}/actions/cancel 405
""")
"""What every caller gets, known or not: which addresses there are is no secret. `/no/such/path` is any other address."""

OWNER = OTHERS | table("""
# ------------------------------------ empty full archi resol trash gone never tempo key upper forke same odd mixed burie
GET,HEAD    /                           200
GET         / ?all                      200
GET         / ?deleted                  200
POST        /                           201
POST        / +id                       200  200  200   200   409   201  201   200   200 200   200   200  422 200   200
POST        /claim                      200
GET,HEAD    /{c}                        200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
GET         /{c} ?before                422  200  200   200   404   404  404   200   200 200   200   200  404 422   200
PATCH       /{c}                        200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
PUT         /{c}                        200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
PUT         /{c} +force                 200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
DELETE      /{c}                        200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
DELETE      /{c} ?permanent             200  200  200   200   200   404  404   200   200 200   200   200  404 200   200
POST        /{c}/archive                200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
POST        /{c}/unarchive              200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
POST        /{c}/resolve                200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
POST        /{c}/restore                200  200  200   200   200   404  404   200   200 200   200   200  404 200   200
GET,HEAD    /{c}/messages               200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
GET,HEAD    /{c}/ui-messages            200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
GET         /{c}/messages ?after        422  200  200   200   404   404  404   200   200 200   200   200  404 422   200
POST        /{c}/messages               201  201  201   201   404   404  404   201   201 201   201   201  404 201   201
POST        /{c}/messages +parent       422  201  201   201   404   404  404   201   201 201   201   201  404 422   422
GET,HEAD    /{c}/messages/{m}           404  200  200   200   404   404  404   200   200 200   200   200  404 404   404
PATCH       /{c}/messages/{m}           404  200  200   200   404   404  404   200   200 200   200   200  404 404   404
DELETE      /{c}/messages/{m}           404  200  200   200   404   404  404   200   200 200   200   200  404 404   404
PUT         /{c}/messages/{m}/feedback  404  200  200   200   404   404  404   200   200 200   200   200  404 404   404
GET         /{c} ?siblings              200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
GET,HEAD    /{c}/branches               200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
POST        /{c}/branches               422  201  201   201   404   404  404   201   201 201   201   201  404 422   422
POST        /{c}/branches/{b}/switch    404  200  200   200   404   404  404   200   200 200   200   200  404 404   404
DELETE      /{c}/branches/{b}           404  404  404   404   404   404  404   404   404 404   200   200  404 404   404
GET         /{c}/messages ?siblings     200  200  200   200   404   404  404   200   200 200   200   200  404 200   200
GET         /{c}/messages ?branch       422  422  422   422   404   404  404   422   422 422   200   200  404 422   422
POST        /{c}/fork                   201  201  201   201   404   404  404   201   201 201   201   201  404 201   201
POST        /{c}/fork +at               422  201  201   201   404   404  404   201   201 201   201   201  404 422   422
GET,HEAD    /{c}/state                    200  200  200  200  404  404  404  200  200  200  200  200  404  200  200
GET,HEAD    /{c}/stream                   204  204  204  204  404  404  404  204  204  204  204  204  404  204  204
POST        /{c}/actions/send_message     200  200  200  200  404  404  404  200  200  200  200  200  404  200  200
POST        /{c}/actions/edit             404  200  200  200  404  404  404  200  200  200  200  200  404  404  404
POST        /{c}/actions/regenerate       409  409  409  409  404  404  404  409  409  409  409  409  404  409  409
POST        /{c}/actions/approve_tools    404  404  404  404  404  404  404  404  404  404  404  404  404  404  404
POST        /{c}/actions/cancel           200  200  200  200  404  404  404  200  200  200  200  200  404  200  200
""")
"""Ada of acme herself."""

STRANGER = OTHERS | table("""
# ------------------------------------ empty full archi resol trash gone never tempo key upper forke same odd mixed burie
GET,HEAD    /                           200
GET         / ?all                      200
GET         / ?deleted                  200
POST        /                           201
POST        / +id                       409  409  409   409   409   201  201   409   201 409   409   200  422 200   409
POST        /claim                      200
GET,HEAD    /{c}                        404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET         /{c} ?before                404  404  404   404   404   404  404   404   404 404   404   200  404 422   404
PATCH       /{c}                        404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
PUT         /{c}                        404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
PUT         /{c} +force                 404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
DELETE      /{c}                        404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
DELETE      /{c} ?permanent             404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
POST        /{c}/archive                404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
POST        /{c}/unarchive              404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
POST        /{c}/resolve                404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
POST        /{c}/restore                404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET,HEAD    /{c}/messages               404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET,HEAD    /{c}/ui-messages            404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET         /{c}/messages ?after        404  404  404   404   404   404  404   404   404 404   404   200  404 422   404
POST        /{c}/messages               404  404  404   404   404   404  404   404   404 404   404   201  404 201   404
POST        /{c}/messages +parent       404  404  404   404   404   404  404   404   404 404   404   201  404 422   404
GET,HEAD    /{c}/messages/{m}           404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
PATCH       /{c}/messages/{m}           404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
DELETE      /{c}/messages/{m}           404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
PUT         /{c}/messages/{m}/feedback  404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
GET         /{c} ?siblings              404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET,HEAD    /{c}/branches               404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
POST        /{c}/branches               404  404  404   404   404   404  404   404   404 404   404   201  404 422   404
POST        /{c}/branches/{b}/switch    404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
DELETE      /{c}/branches/{b}           404  404  404   404   404   404  404   404   404 404   404   200  404 404   404
GET         /{c}/messages ?siblings     404  404  404   404   404   404  404   404   404 404   404   200  404 200   404
GET         /{c}/messages ?branch       404  404  404   404   404   404  404   404   404 404   404   200  404 422   404
POST        /{c}/fork                   404  404  404   404   404   404  404   404   404 404   404   201  404 201   404
POST        /{c}/fork +at               404  404  404   404   404   404  404   404   404 404   404   201  404 422   404
GET,HEAD    /{c}/state                    404  404  404  404  404  404  404  404  404  404  404  200  404  200  404
GET,HEAD    /{c}/stream                   404  404  404  404  404  404  404  404  404  404  404  204  404  204  404
POST        /{c}/actions/send_message     404  404  404  404  404  404  404  404  404  404  404  200  404  200  404
POST        /{c}/actions/edit             404  404  404  404  404  404  404  404  404  404  404  200  404  404  404
POST        /{c}/actions/regenerate       404  404  404  404  404  404  404  404  404  404  404  409  404  409  404
POST        /{c}/actions/approve_tools    404  404  404  404  404  404  404  404  404  404  404  404  404  404  404
POST        /{c}/actions/cancel           404  404  404  404  404  404  404  404  404  404  404  200  404  200  404
""")
"""Another user, who has conversations too."""

STRANGER_403 = OTHERS | table("""
# ------------------------------------ empty full archi resol trash gone never tempo key upper forke same odd mixed burie
GET,HEAD    /                           200
GET         / ?all                      200
GET         / ?deleted                  200
POST        /                           201
POST        / +id                       409  409  409   409   409   201  201   409   201 409   409   200  422 200   409
POST        /claim                      200
GET,HEAD    /{c}                        403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET         /{c} ?before                403  403  403   403   404   404  404   403   404 403   403   200  404 422   403
PATCH       /{c}                        403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
PUT         /{c}                        403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
PUT         /{c} +force                 403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
DELETE      /{c}                        403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
DELETE      /{c} ?permanent             403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
POST        /{c}/archive                403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
POST        /{c}/unarchive              403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
POST        /{c}/resolve                403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
POST        /{c}/restore                403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET,HEAD    /{c}/messages               403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET,HEAD    /{c}/ui-messages            403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET         /{c}/messages ?after        403  403  403   403   404   404  404   403   404 403   403   200  404 422   403
POST        /{c}/messages               403  403  403   403   404   404  404   403   404 403   403   201  404 201   403
POST        /{c}/messages +parent       403  403  403   403   404   404  404   403   404 403   403   201  404 422   403
GET,HEAD    /{c}/messages/{m}           403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
PATCH       /{c}/messages/{m}           403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
DELETE      /{c}/messages/{m}           403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
PUT         /{c}/messages/{m}/feedback  403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
GET         /{c} ?siblings              403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET,HEAD    /{c}/branches               403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
POST        /{c}/branches               403  403  403   403   404   404  404   403   404 403   403   201  404 422   403
POST        /{c}/branches/{b}/switch    403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
DELETE      /{c}/branches/{b}           403  403  403   403   404   404  404   403   404 403   403   200  404 404   403
GET         /{c}/messages ?siblings     403  403  403   403   404   404  404   403   404 403   403   200  404 200   403
GET         /{c}/messages ?branch       403  403  403   403   404   404  404   403   404 403   403   200  404 422   403
POST        /{c}/fork                   403  403  403   403   404   404  404   403   404 403   403   201  404 201   403
POST        /{c}/fork +at               403  403  403   403   404   404  404   403   404 403   403   201  404 422   403
GET,HEAD    /{c}/state                    403  403  403  403  404  404  404  403  404  403  403  200  404  200  403
GET,HEAD    /{c}/stream                   403  403  403  403  404  404  404  403  404  403  403  204  404  204  403
POST        /{c}/actions/send_message     403  403  403  403  404  404  404  403  404  403  403  200  404  200  403
POST        /{c}/actions/edit             403  403  403  403  404  404  404  403  404  403  403  200  404  404  403
POST        /{c}/actions/regenerate       403  403  403  403  404  404  404  403  404  403  403  409  404  409  403
POST        /{c}/actions/approve_tools    403  403  403  403  404  404  404  403  404  403  403  404  404  404  403
POST        /{c}/actions/cancel           403  403  403  403  404  404  404  403  404  403  403  200  404  200  403
""")
"""The same with `CONVERSATIONS_FOREIGN_STATUS = 403`: a conversation that is there and not in the trash is admitted to be.

Client ids belong to their owner, so that a stranger's names nothing.
"""

GUEST = STRANGER | table("""
POST        /claim                      422
""")
"""A guest with a cookie of their own, who can take over nothing before they log in."""

NEWCOMER = STRANGER | table("""
# ------------------------------------ empty full archi resol trash gone never tempo key upper forke same odd mixed burie
POST        / +id                       409  409  409   409   409   201  201   409   201 409   409   201  422 409   409
GET,HEAD    /{c}                        404
GET         /{c} ?before                404
PATCH       /{c}                        404
PUT         /{c}                        404
PUT         /{c} +force                 404
DELETE      /{c}                        404
DELETE      /{c} ?permanent             404
POST        /{c}/archive                404
POST        /{c}/unarchive              404
POST        /{c}/resolve                404
POST        /{c}/restore                404
GET,HEAD    /{c}/messages               404
GET,HEAD    /{c}/ui-messages            404
GET         /{c}/messages ?after        404
POST        /{c}/messages               404
POST        /{c}/messages +parent       404
GET,HEAD    /{c}/messages/{m}           404
PATCH       /{c}/messages/{m}           404
DELETE      /{c}/messages/{m}           404
PUT         /{c}/messages/{m}/feedback  404
GET         /{c} ?siblings              404
GET,HEAD    /{c}/branches               404
POST        /{c}/branches               404
POST        /{c}/branches/{b}/switch    404
DELETE      /{c}/branches/{b}           404
GET         /{c}/messages ?siblings     404
GET         /{c}/messages ?branch       404
POST        /{c}/fork                   404
POST        /{c}/fork +at               404
GET,HEAD    /{c}/state                    404
GET,HEAD    /{c}/stream                   404
POST        /{c}/actions/send_message     404
POST        /{c}/actions/edit             404
POST        /{c}/actions/regenerate       404
POST        /{c}/actions/approve_tools    404
POST        /{c}/actions/cancel           404
""")
"""A user who has nothing yet: a guest with a forged cookie is a new guest with every request."""

NOBODY = OTHERS | table("""
GET,HEAD    /                           401
GET         / ?all                      401
GET         / ?deleted                  401
POST        /                           401
POST        / +id                       401
POST        /claim                      401
GET,HEAD    /{c}                        401
GET         /{c} ?before                401
PATCH       /{c}                        401
PUT         /{c}                        401
PUT         /{c} +force                 401
DELETE      /{c}                        401
DELETE      /{c} ?permanent             401
POST        /{c}/archive                401
POST        /{c}/unarchive              401
POST        /{c}/resolve                401
POST        /{c}/restore                401
GET,HEAD    /{c}/messages               401
GET,HEAD    /{c}/ui-messages            401
GET         /{c}/messages ?after        401
POST        /{c}/messages               401
POST        /{c}/messages +parent       401
GET,HEAD    /{c}/messages/{m}           401
PATCH       /{c}/messages/{m}           401
DELETE      /{c}/messages/{m}           401
PUT         /{c}/messages/{m}/feedback  401
GET         /{c} ?siblings              401
GET,HEAD    /{c}/branches               401
POST        /{c}/branches               401
POST        /{c}/branches/{b}/switch    401
DELETE      /{c}/branches/{b}           401
GET         /{c}/messages ?siblings     401
GET         /{c}/messages ?branch       401
POST        /{c}/fork                   401
POST        /{c}/fork +at               401
GET,HEAD    /{c}/state                    401
GET,HEAD    /{c}/stream                   401
POST        /{c}/actions/send_message     401
POST        /{c}/actions/edit             401
POST        /{c}/actions/regenerate       401
POST        /{c}/actions/approve_tools    401
POST        /{c}/actions/cancel           401
""")
"""Without credentials, or with credentials that are not good."""

FOREIGN_PAGE = OWNER | table("""
POST        /                           403
POST        / +id                       403
POST        /claim                      403
PATCH       /{c}                        403
PUT         /{c}                        403
PUT         /{c} +force                 403
DELETE      /{c}                        403
DELETE      /{c} ?permanent             403
POST        /{c}/archive                403
POST        /{c}/unarchive              403
POST        /{c}/resolve                403
POST        /{c}/restore                403
POST        /{c}/messages               403
POST        /{c}/messages +parent       403
PATCH       /{c}/messages/{m}           403
DELETE      /{c}/messages/{m}           403
PUT         /{c}/messages/{m}/feedback  403
POST        /{c}/branches               403
POST        /{c}/branches/{b}/switch    403
DELETE      /{c}/branches/{b}           403
POST        /{c}/fork                   403
POST        /{c}/fork +at               403
POST        /{c}/actions/send_message     403
POST        /{c}/actions/edit             403
POST        /{c}/actions/regenerate       403
POST        /{c}/actions/approve_tools    403
POST        /{c}/actions/cancel           403
""")
"""Ada's own browser with her session cookie, but on another site's page: CSRF. Reading is what the cookie says."""

CALLERS = {
    "owner": OWNER,
    "owner by session": OWNER,
    "owner's browser on a foreign page": FOREIGN_PAGE,
    "colleague in the same organisation": STRANGER,
    "stranger in another organisation": STRANGER,
    "same user id in another organisation": STRANGER,
    "same user id without organisation": STRANGER,
    "user id and organisation swapped": STRANGER,
    "user id in capitals": STRANGER,
    "user id with a blank behind": STRANGER,
    "colleague who says to be the owner": STRANGER,
    "guest": GUEST,
    "guest with a forged cookie": NEWCOMER,
    "nobody": NOBODY,
    "expired token": NOBODY,
    "forged token": NOBODY,
    "forged token beside the owner's session": NOBODY,
    "unsigned token": NOBODY,
    "token without organisation": NOBODY,
}

AS_ON_SQLITE = {
    "owner by session",
    "stranger in another organisation",
    "user id and organisation swapped",
    "colleague who says to be the owner",
    "expired token",
    "forged token",
    "forged token beside the owner's session",
    "unsigned token",
    "token without organisation",
}
"""Callers who are to a database what another one is: PostgreSQL meets them in the long run only."""


def on_each_database(callers: Iterable[str]) -> pytest.MarkDecorator:
    """Parametrizes a test with these callers on both databases."""
    return pytest.mark.parametrize(
        ("database", "caller"),
        [
            pytest.param(
                database,
                caller,
                marks=[pytest.mark.long] * (database == "postgresql" and caller in AS_ON_SQLITE),
            )
            for database in ("sqlite", "postgresql")
            for caller in callers
        ],
        indirect=["database"],
    )


CALLERS_403 = {
    "owner": OWNER,
    "colleague in the same organisation": STRANGER_403,
    "same user id in another organisation": STRANGER_403,
    "guest": STRANGER_403 | {"POST /claim": GUEST["POST /claim"]},
    "nobody": NOBODY,
}

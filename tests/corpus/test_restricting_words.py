"""Restrictions in words of no known licence, in the comments of a file of an MIT package, and words
of code that only sound like them.
"""

from __future__ import annotations

import pytest
from test_file_licences import judged
from test_licence_cases import CODE

RESTRICTS = """
Academic research only.
Academic use only.
Research only.
For research only.
Only for academic purposes.
Only for research.
Educational use only.
For educational purposes only.
Only for educational use.
For evaluation only.
Evaluation copy.
Personal use only.
For personal use only.
Only for personal use.
Students only.
For students of the course only.
For use by Example employees only.
Only employees of Example may use this.
For customers only.
You may not use this without a contract.
You may not use this file without a contract with Example.
You must not use this without our permission.
You cannot use this code without a licence.
You can't use this without paying.
May not be used without a subscription.
This may not be used without a signed agreement.
Not to be used without a contract.
Do not use without permission.
Do not use this code without asking me.
Use requires a contract.
Use requires a paid subscription.
Using this file requires a commercial licence.
A contract is required to use this software.
A paid license is required for production use.
A subscription is needed to use this code.
You need a contract to use this.
You need a license to use this code.
You must buy a license.
You must purchase a licence before using this.
You must pay to use this.
Not for commercial use.
Not for redistribution.
No commercial use.
No redistribution.
No copying.
Commercial use is not allowed.
Commercial use prohibited.
Redistribution is not allowed.
Redistribution prohibited.
Copying prohibited.
Copying is forbidden.
Do not share.
Do not share this file.
Do not redistribute.
Do not copy.
Do not publish.
Strictly internal.
Company internal.
Example internal. Do not distribute outside Example.
May only be used on Example devices.
This file may only be used with Example products.
Use is limited to Example customers.
Under NDA.
Covered by a non-disclosure agreement.
Subject to a nondisclosure agreement.
Free for academic use.
Free for non-profit organisations.
Free for noncommercial use.
Free for personal use.
Non-profit use only.
Nonprofits only.
Contact sales@example.com for a license.
Contact Example for commercial licensing.
Licensed to Example Inc. only.
Copyright Example. No part of this may be reproduced.
No part of this file may be copied without consent.
No license is granted.
No rights are granted.
All rights are reserved by Example.
Not open source.
Closed source.
Source available.
Proprietary.
Proprietary code of Example.
Confidential.
Example Confidential.
Top secret.
You may use this for 30 days.
You may use this for evaluation.
You may use this file only if you have bought it.
Only licensed users may use this.
Only for use with a valid license.
Not for military use.
Not for use in nuclear plants.
Must not be used by competitors.
Not for use by governments.
No AI training.
May not be used to train AI models.
May not be used for machine learning.
Do not use for training language models.
Nur f\u00fcr Forschungszwecke.
Nur f\u00fcr den internen Gebrauch.
Nicht f\u00fcr kommerzielle Zwecke.
Kommerzielle Nutzung verboten.
Weitergabe verboten.
Vertraulich.
Usage interne uniquement.
Usage non commercial uniquement.
Reproduction interdite.
R\u00e9serv\u00e9 \u00e0 la recherche.
Toute reproduction est interdite sans autorisation.
Uso exclusivamente acad\u00e9mico.
Prohibida su reproducci\u00f3n.
Solo para uso interno.
Uso no comercial.
Solo per uso personale.
Vietata la riproduzione.
Uso n\u00e3o comercial.
\u4ec5\u4f9b\u5b66\u4e60\u4f7f\u7528\u3002
\u4ec5\u4f9b\u5185\u90e8\u4f7f\u7528\u3002
\u7981\u6b62\u5546\u7528\u3002
\u7248\u6743\u6240\u6709\u3002
\u672a\u7ecf\u6388\u6743\u7981\u6b62\u4f7f\u7528\u3002
\u7121\u65ad\u8ee2\u8f09\u3092\u7981\u3058\u307e\u3059\u3002
\u793e\u5916\u79d8
\u5546\u7528\u5229\u7528\u7981\u6b62
\ubb34\ub2e8 \ubcf5\uc81c \uae08\uc9c0
\uc800\uc791\uad8c
\u0412\u0441\u0435 \u043f\u0440\u0430\u0432\u0430 \u0437\u0430\u0449\u0438\u0449\u0435\u043d\u044b.
Microsoft Confidential
Proprietary
Example Corp. Proprietary
GPL
LGPLv3
AGPL-3.0
EUPL
GPL'ed
This file is GPL'd.
Apache 2.0 with Commons Clause
MIT plus the Commons Clause
CreativeML Open RAIL-M
OpenRAIL-M license
FSL-1.1-MIT
Functional Source License, Version 1.1, MIT Future License
Ce logiciel est r\u00e9gi par la licence CeCILL soumise au droit fran\u00e7ais
Alle rechten voorbehouden
Wszelkie prawa zastrze\u017cone
V\u0161echna pr\u00e1va vyhrazena
Kaikki oikeudet pid\u00e4tet\u00e4\u00e4n
Alle rettigheter forbeholdt
Minden jog fenntartva
T\u00fcm haklar\u0131 sakl\u0131d\u0131r
Toate drepturile rezervate
\u0423\u0441\u0456 \u043f\u0440\u0430\u0432\u0430 \u0437\u0430\u0445\u0438\u0449\u0435\u043d\u0456
\u7248\u6743\u6240\u6709
\u4fdd\u7559\u6240\u6709\u6743\u5229
For internal use at Example only
Not licensed for use in production
Evaluation version. Expires after 30 days.
Modification of this file is not permitted
Redistribution of this source code is not allowed.
MIT License, with the restriction that military use is not allowed
Commercial use is prohibited.
"""
SAYS_NOTHING = """
Removed the academic-only data set.
For private use only.
This stemmer is intended for demonstration and educational purposes only.
You may not use this after free.
You must not use this without holding the lock.
You may not use this without a context manager.
Do not use without a lock.
Cannot be used without an event loop.
This must not be used without initialising the library.
You may not use a contract call without gas.
The contract requires that a is positive.
A contract is required for each call.
This breaks the contract of __hash__.
Internal use only; see the public API instead.
For internal use only.
Internal only.
This function is for internal use only and may change.
Private: for internal purposes only.
Do not share the connection between threads.
Do not share this object.
No copying of the array takes place.
For testing only.
For testing purposes only.
For debugging purposes only.
Used for educational purposes in the tutorial.
The confidential client flow.
Requires a subscription to the topic.
A subscription is needed to receive events.
Do not use for training; use eval mode.
Only used for training.
Do not publish messages after close.
A valid certificate is required to use this endpoint.
You need a token to use this API.
You must buy(order) before sell(order).
Not for production use: the server is single threaded.
Do not use this in production.
This server is for development only.
The students table holds research data.
For members only, see the base class.
May only be used with asyncio.
May only be used on Windows.
This option may only be used with --all.
Use is limited to one thread.
Restricted to integers.
Access is restricted to admins.
The model must not be used to predict future values.
Only for Python 3.
Users may not use this option without --force.
No license found.
The academic year starts in autumn.
Not free: the pointer is still in use.
Only licensed plates are counted.
trial = study.ask()
Evaluation only happens once.
For evaluation only the head is used.
closed source = None
Modification of the list is not permitted while iterating.
This is not allowed in Python 3.
A license clause that is common.
For internal use by the parser.
The trial version of the function expires never.
Commercial uses of the api.
cecill = 1
open rail data
closed source = None
"""


def lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


@pytest.mark.parametrize("words", lines(RESTRICTS))
@pytest.mark.parametrize("n_lines", [1, 20])
def test_words_that_restrict_make_a_file_unknown(words: str, n_lines: int) -> None:
    assert judged(f"# {words}\n".encode() + CODE * n_lines)[1] is not None


@pytest.mark.parametrize("words", lines(SAYS_NOTHING))
@pytest.mark.parametrize("n_lines", [1, 20])
def test_words_of_code_say_nothing(words: str, n_lines: int) -> None:
    assert judged(f"# {words}\n".encode() + CODE * n_lines)[1:] == (None, "")

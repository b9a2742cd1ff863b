"""Whose mailboxes: providers by the suffix of an MX host, else of the recipient's domain."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"

_COUNTRIES: Final = (
    ("hotmail", "microsoft", "be ca ch cl co.il co.in co.jp co.kr co.nz co.th co.uk co.za com com.ar com.au com.br com.hk com.mx com.tr com.tw cz de dk es fi fr gr hu it jp nl no pt rs ru se sg sk"),
    ("live", "microsoft", "at be ca ch cl cn co.in co.kr co.uk co.za com com.ar com.au com.mx com.my com.ph com.pt com.sg de dk fi fr hk ie in it jp nl no pt ru se"),
    ("outlook", "microsoft", "at be cl co.id co.il co.nz co.th com com.ar com.au com.br com.gr com.pe com.tr com.vn cz de dk es fr hu ie in it jp kr lv my ph pt sa sg sk"),
    ("yahoo", "yahoo", "at be bg ca ch cl cn co.id co.il co.in co.jp co.kr co.nz co.th co.uk co.za com com.ar com.au com.br com.cn com.co com.hk com.mx com.my com.ph com.sg com.tr com.tw com.vn cz de dk ee es fi fr gr hr hu ie in it lt lv nl no pl pt ro rs ru se si sk ua"),
    ("gmx", "gmx", "at biz ch co.uk com de es eu fr info it li net org us"),
    ("yandex", "yandex", "by com com.tr kz net ru ua"),
    ("zoho", "zoho", "com com.au eu in"),
)  # fmt: skip

_SUFFIXES: Final = {
    "google": "gmail.com googlemail.com google.com psmtp.com",
    "microsoft": "protection.outlook.com mx.microsoft msn.com passport.com windowslive.com hotmail.com",
    "yahoo": "yahoodns.net yahoo.net aol.com aol.de aol.co.uk aol.fr aol.it ymail.com rocketmail.com "
    "myyahoo.com netscape.net aim.com verizon.net",
    "apple": "icloud.com me.com mac.com",
    "zoho": "zohomail.com zohomail.eu zohocorp.com",
    "proton": "protonmail.com protonmail.ch proton.me pm.me",
    "fastmail": "fastmail.com fastmail.fm messagingengine.com",
    "gmx": "web.de kundenserver.de 1and1.com 1and1.co.uk ionos.com ionos.de mail.com perfora.net "
    "caramail.com",
    "t-online": "t-online.de magenta.de",
    "mailru": "mail.ru inbox.ru list.ru bk.ru internet.ru",
    "yandex": "ya.ru",
    "qq": "qq.com foxmail.com vip.qq.com",
    "netease": "163.com 126.com yeah.net 188.com netease.com",
    "naver": "naver.com",
    "orange": "orange.fr wanadoo.fr orange.net",
    "free": "free.fr proxad.net",
    "comcast": "comcast.net",
    "att": "att.net prodigy.net sbcglobal.net bellsouth.net ameritech.net pacbell.net swbell.net "
    "flash.net nvbell.net snet.net",
    "charter": "charter.net spectrum.net rr.com twc.com roadrunner.com",
    "cox": "cox.net",
    "mimecast": "mimecast.com mimecast.co.za mimecast-offshore.com",
    "proofpoint": "pphosted.com ppe-hosted.com",
    "barracuda": "barracudanetworks.com",
    "cisco": "iphmx.com",
    "trendmicro": "trendmicro.com trendmicro.eu trendmicro.co.jp",
    "sophos": "sophos.com reflexion.net",
    "hornetsecurity": "antispameurope.com hornetsecurity.com",
    "messagelabs": "messagelabs.com",
    "n-able": "antispamcloud.com spamexperts.com spamexperts.eu",
    "amazon": "amazonaws.com awsapps.com",
    "cloudflare": "mx.cloudflare.net",
    "ovh": "ovh.net ovh.com",
    "gandi": "gandi.net",
    "seznam": "seznam.cz email.cz post.cz",
    "libero": "libero.it inwind.it iol.it",
    "wp": "wp.pl o2.pl",
    "onet": "onet.pl onet.eu op.pl vp.pl poczta.onet.pl",
}


def _table() -> dict[str, str]:
    table = {suffix: name for name, text in _SUFFIXES.items() for suffix in text.split()}
    table |= {f"{name}.{end}": who for name, who, ends in _COUNTRIES for end in ends.split()}
    return table


PROVIDERS: Final = _table()
"""Provider by domain suffix.  A name belongs to the longest suffix of whole labels."""

NAMES: Final = (*sorted(set(PROVIDERS.values())), OTHER)
"""Every value of the label ``provider``."""


def provider_of(name: str) -> str:
    """Return the provider of a host or domain in its normal spelling.

    Only whole labels match: ``mx.google.com`` is Google's, ``notgoogle.com`` is not.
    """
    while name:
        found = PROVIDERS.get(name)
        if found is not None:
            return found
        name = name.partition(".")[2]
    return OTHER

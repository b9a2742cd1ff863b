"""What receiving systems answer: the provider mix of the simulator, with replies as they are seen in the wild.

Replies are templates: ``{ip}`` our sending address, ``{to}`` the recipient, ``{id}`` a queue id of
the far side, ``{message_id}`` and ``{size}`` of the mail, ``{peer}`` the far side's address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to a delivery attempt."""

    text: str
    """The reply line(s), or the local error when no connection was made."""
    code: int | None = None
    """SMTP reply code; None when there was no reply."""
    status: str | None = None
    """Enhanced status code, where the far side gives one."""
    error: str | None = None
    """The mailer's own error name, e.g. ``EENVELOPE``."""

    @property
    def connected(self) -> bool:
        """Tell whether a connection was made: only then a sending address is known."""
        return self.code is not None


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiving provider: its share of the mail, its manners and its replies."""

    name: str
    share: float
    domains: tuple[str, ...]
    """Most frequent first.  Empty: the long tail of small domains."""
    mx: str
    median_s: float
    """Median of the time from queued to outcome, seconds."""
    deferral: float
    """Probability that an attempt is deferred."""
    bounce: float
    """Probability that an attempt bounces."""
    delivered: tuple[Reply, ...]
    deferred: tuple[Reply, ...]
    bounced: tuple[Reply, ...]
    blocks: tuple[Reply, ...]
    """Answers to mail that looks like a flood: deferrals (4xx) and refusals (5xx)."""


def _refused(code: int, status: str | None, text: str) -> Reply:
    return Reply(text, code, status, "EENVELOPE" if code < 554 else "EMESSAGE")


_GOOGLE: Final = Receiver(
    name="google",
    share=0.36,
    domains=("gmail.com", "googlemail.com"),
    mx="gmail-smtp-in.l.google.com",
    median_s=1.1,
    deferral=0.025,
    bounce=0.012,
    delivered=(Reply("250 2.0.0 OK  {id} - gsmtp", 250, "2.0.0"),),
    deferred=(
        _refused(
            421,
            "4.7.28",
            "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n"
            "421-4.7.28 from your IP address [{ip}]. To protect our users from spam, mail sent\n"
            "421-4.7.28 from your IP address has been temporarily rate limited. For more\n"
            "421-4.7.28 information, go to\n"
            "421 4.7.28  https://support.google.com/mail/?p=UnsolicitedRateLimitError {id} - gsmtp",
        ),
        _refused(
            452,
            "4.2.2",
            "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\n"
            "452-4.2.2 recipient to\n"
            "452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp {id} - gsmtp",
        ),
        _refused(
            450,
            "4.2.1",
            "450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n"
            "450-4.2.1 prevents additional messages from being delivered. For more\n"
            "450-4.2.1 information, go to\n"
            "450 4.2.1  https://support.google.com/mail/?p=ReceivingRate {id} - gsmtp",
        ),
    ),
    bounced=(
        _refused(
            550,
            "5.1.1",
            "550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
            "550-5.1.1 double-checking the recipient's email address for typos or\n"
            "550-5.1.1 unnecessary spaces. For more information, go to\n"
            "550 5.1.1  https://support.google.com/mail/?p=NoSuchUser {id} - gsmtp",
        ),
        _refused(
            552,
            "5.2.2",
            "552-5.2.2 The recipient's inbox is out of storage space and inactive. Please\n"
            "552-5.2.2 direct the recipient to\n"
            "552 5.2.2  https://support.google.com/mail/?p=OverQuotaPerm {id} - gsmtp",
        ),
        _refused(
            550,
            "5.7.26",
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n"
            "550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n"
            "550 5.7.26  https://support.google.com/mail/answer/81126#authentication {id} - gsmtp",
        ),
    ),
    blocks=(
        _refused(
            421,
            "4.7.0",
            "421-4.7.0 [{ip}      15] Our system has detected an unusual rate of\n"
            "421-4.7.0 unsolicited mail originating from your IP address. To protect our\n"
            "421 4.7.0  users from spam, mail has been temporarily rate limited. {id} - gsmtp",
        ),
        _refused(
            550,
            "5.7.1",
            "550-5.7.1 [{ip}      12] Our system has detected that this message is\n"
            "550-5.7.1 likely unsolicited mail. To reduce the amount of spam sent to Gmail,\n"
            "550-5.7.1 this message has been blocked. Please visit\n"
            "550 5.7.1  https://support.google.com/mail/?p=UnsolicitedMessageError {id} - gsmtp",
        ),
    ),
)

_MICROSOFT: Final = Receiver(
    name="microsoft",
    share=0.22,
    domains=("outlook.com", "hotmail.com", "live.com", "msn.com"),
    mx="outlook-com.olc.protection.outlook.com",
    median_s=1.9,
    deferral=0.05,
    bounce=0.018,
    delivered=(
        Reply(
            "250 2.6.0 {message_id} [InternalId={id}, Hostname=AM0PR04MB0001.eurprd04.prod.outlook.com] "
            "{size} bytes in 0.214, 78.231 KB/sec Queued mail for delivery -> 250 2.1.5",
            250,
            "2.6.0",
        ),
    ),
    deferred=(
        _refused(
            451,
            "4.7.650",
            "451 4.7.650 The mail server [{ip}] has been temporarily rate limited due to IP "
            "reputation. For e-mail delivery information, see https://postmaster.live.com (S775)",
        ),
        _refused(
            451,
            "4.7.500",
            "451 4.7.500 Server busy. Please try again later from [{ip}]. (S77714)",
        ),
    ),
    bounced=(
        _refused(
            550,
            "5.5.0",
            "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        ),
        _refused(
            550,
            "5.4.1",
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
        ),
        _refused(554, "5.2.2", "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceeded"),
    ),
    blocks=(
        _refused(
            550,
            "5.7.1",
            "550 5.7.1 Unfortunately, messages from [{ip}] weren't sent. Please contact your "
            "Internet service provider since part of their network is on our block list (S3150).",
        ),
        _refused(
            451,
            "4.7.652",
            "451 4.7.652 The mail server [{ip}] has exceeded the maximum number of connections. "
            "(S3115)",
        ),
    ),
)

_YAHOO: Final = Receiver(
    name="yahoo",
    share=0.10,
    domains=("yahoo.com", "aol.com", "yahoo.co.uk", "ymail.com"),
    mx="mta5.am0.yahoodns.net",
    median_s=1.4,
    deferral=0.06,
    bounce=0.02,
    delivered=(Reply("250 ok dirdel", 250),),
    deferred=(
        _refused(
            421,
            "4.7.0",
            "421 4.7.0 [TSS04] Messages from {ip} temporarily deferred due to unexpected volume or "
            "user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
        ),
        _refused(
            451, None, "451 Resources temporarily unavailable. Please try again later [#4.16.5]."
        ),
    ),
    bounced=(
        _refused(554, None, "554 delivery error: dd Not a valid recipient - {id}"),
        _refused(
            554,
            None,
            "554 30 Sorry, your message to {to} cannot be delivered. This mailbox is disabled "
            "(554.30).",
        ),
    ),
    blocks=(
        _refused(
            554,
            "5.7.9",
            "554 5.7.9 Message not accepted for policy reasons. See "
            "https://postmaster.yahooinc.com/error-codes",
        ),
        _refused(
            553,
            "5.7.1",
            "553 5.7.1 [BL21] Connections will not be accepted from {ip}, because the ip is in "
            "Spamhaus's list; see https://postmaster.yahooinc.com/error-codes",
        ),
    ),
)

_GMX: Final = Receiver(
    name="gmx",
    share=0.09,
    domains=("gmx.net", "web.de", "gmx.de"),
    mx="mx00.emig.gmx.net",
    median_s=0.9,
    deferral=0.04,
    bounce=0.02,
    delivered=(Reply("250 Requested mail action okay, completed: id={id}", 250),),
    deferred=(
        _refused(
            421,
            None,
            "421-gmx.net (mxgmx016) Nemesis ESMTP Service not available\n"
            "421-Service not available, closing transmission channel\n"
            "421 For explanation visit https://postmaster.gmx.net/en/case?c=r0601&i=ip&v={ip}&r={id}",
        ),
        _refused(
            450,
            None,
            "450-Requested mail action not taken: mailbox unavailable\n"
            "450-Mail send limit exceeded\n"
            "450 For explanation visit https://postmaster.gmx.net/en/case?c=r0401&i=ip&v={ip}&r={id}",
        ),
    ),
    bounced=(
        _refused(
            550,
            None,
            "550-Requested action not taken: mailbox unavailable\n"
            "550 For explanation visit https://postmaster.gmx.net/en/error-messages?ip={ip}&c=rcpt",
        ),
        _refused(
            552,
            None,
            "552-Requested mail action aborted: exceeded storage allocation\n"
            "552-Quota exceeded. The recipient's mailbox is full.\n"
            "552 For explanation visit https://postmaster.gmx.net/en/error-messages?ip={ip}&c=quota",
        ),
    ),
    blocks=(
        _refused(
            554,
            None,
            "554-Transaction failed\n"
            "554-Reject due to policy restrictions.\n"
            "554 For explanation visit https://postmaster.gmx.net/en/case?c=hi&i=ip&v={ip}&r={id}",
        ),
    ),
)

_APPLE: Final = Receiver(
    name="apple",
    share=0.05,
    domains=("icloud.com", "me.com", "mac.com"),
    mx="mx01.mail.icloud.com",
    median_s=2.4,
    deferral=0.02,
    bounce=0.015,
    delivered=(Reply("250 2.0.0 Ok: queued as {id}", 250, "2.0.0"),),
    deferred=(
        _refused(450, "4.2.2", "450 4.2.2 <{to}>: user is overquota"),
        _refused(421, "4.7.0", "421 4.7.0 [CS01] Too many messages from {ip}, try again later."),
    ),
    bounced=(_refused(550, "5.1.1", "550 5.1.1 <{to}>: user does not exist"),),
    blocks=(
        _refused(
            554,
            "5.7.1",
            "554 5.7.1 [HM08] Message rejected due to local policy. Please visit "
            "https://support.apple.com/en-us/HT204137",
        ),
    ),
)

_T_ONLINE: Final = Receiver(
    name="t-online",
    share=0.04,
    domains=("t-online.de", "magenta.de"),
    mx="mx00.t-online.de",
    median_s=0.8,
    deferral=0.02,
    bounce=0.02,
    delivered=(Reply("250 2.0.0 Message accepted.", 250, "2.0.0"),),
    deferred=(_refused(451, "4.7.0", "451 4.7.0 Temporary rejection, try again later."),),
    bounced=(_refused(550, "5.1.1", "550 5.1.1 <{to}>: Recipient unknown"),),
    blocks=(
        _refused(
            554,
            None,
            "554 IP={ip} - A problem occurred. Ask your postmaster for help or to contact "
            "tobr@rx.t-online.de to clarify. (BL)",
        ),
    ),
)

_OTHER: Final = Receiver(
    name="other",
    share=0.14,
    domains=(),
    mx="mail.{domain}",
    median_s=2.2,
    deferral=0.09,
    bounce=0.04,
    delivered=(
        Reply("250 2.0.0 Ok: queued as {id}", 250, "2.0.0"),
        Reply("250 OK id={id}", 250),
    ),
    deferred=(
        _refused(451, "4.7.1", "451 4.7.1 Greylisted, please try again in 300 seconds"),
        _refused(450, "4.2.0", "450 4.2.0 <{to}>: Recipient address rejected: Greylisted"),
        _refused(452, "4.2.2", "452 4.2.2 The email account that you tried to reach is over quota"),
        Reply("connect ECONNREFUSED {peer}:25", error="ECONNREFUSED"),
        Reply("connect ETIMEDOUT {peer}:25", error="ETIMEDOUT"),
    ),
    bounced=(
        _refused(
            550,
            "5.1.1",
            "550 5.1.1 <{to}>: Recipient address rejected: User unknown in virtual mailbox table",
        ),
        _refused(554, "5.4.14", "554 5.4.14 Hop count exceeded - possible mail loop"),
        Reply("queryMx ENOTFOUND {domain}", error="ENOTFOUND"),
    ),
    blocks=(
        _refused(
            554,
            "5.7.1",
            "554 5.7.1 Service unavailable; Client host [{ip}] blocked using zen.spamhaus.org; "
            "https://www.spamhaus.org/query/ip/{ip}",
        ),
        _refused(451, "4.7.1", "451 4.7.1 Too many messages from {ip}, slow down"),
    ),
)

RECEIVERS: Final = (_GOOGLE, _MICROSOFT, _YAHOO, _GMX, _APPLE, _T_ONLINE, _OTHER)
"""The provider mix; the shares add up to 1."""

INBOUND_REJECTIONS: Final = (
    Reply("550 5.1.1 <{to}>: Recipient address rejected: User unknown", 550, "5.1.1"),
    Reply("554 5.7.1 Client host [{ip}] blocked using zen.spamhaus.org", 554, "5.7.1"),
    Reply("550 5.7.1 Message rejected as spam, score 14.2", 550, "5.7.1"),
    Reply("550 5.7.23 SPF validation failed", 550, "5.7.23"),
)
"""How our own inbound servers turn mail away."""

SUBMISSION_REJECTIONS: Final = (
    Reply("550 5.7.1 Sending limit reached, try again later", 550, "5.7.1"),
    Reply("552 5.3.4 Message size exceeds the limit", 552, "5.3.4"),
)
"""How our own submission servers turn a customer's mail away."""

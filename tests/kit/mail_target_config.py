"""Configuration of the Postfix and the Dovecot that tests send to and look into."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DOMAIN: Final = "example.test"
PASSWORDS: Final = {
    "probe-a": "pass-a",
    "probe-b": "pass-b",
    "full": "pass-full",
    "umlaut": "pässwörd",
}
REPLIES: Final = {
    "refused-rcpt": "550 5.1.1 there is nobody by that name",
    "full-rcpt": "452 4.2.2 the mailbox is over quota",
    "held": "HOLD",
}
"""To RCPT, by the recipient's name."""
REWRITTEN: Final = "prefixed-on-the-way"
"""A word in the subject that makes a server put a warning before it."""
LOST: Final = "subject-lost-on-the-way"
"""A word in the subject that makes a server replace all of it."""


@dataclass(frozen=True)
class Ports:
    """Where the servers listen, all on 127.0.0.1."""

    submission: int
    smtps: int
    plain: int
    """SMTP without TLS or login, as between servers."""
    client_cert: int
    """Submission that demands a client's certificate."""
    imap: int
    imaps: int


@dataclass(frozen=True)
class Layout:
    """Where everything of one target is."""

    root: Path
    ports: Ports
    cert: Path
    key: Path
    ca: Path
    policy_port: int
    capability: str | None = None
    """What IMAP says that it can, in place of all that it can."""
    user: str = "dovecot"
    queue: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "queue", self.root / "queue")


def dovecot_conf(at: Layout) -> str:
    """Return Dovecot's configuration (2.3)."""
    capability = f"imap_capability = {at.capability}" if at.capability else ""
    return f"""
base_dir = {at.root}/run/dovecot
state_dir = {at.root}/state
log_path = {at.root}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{at.cert}
ssl_key = <{at.key}
disable_plaintext_auth = yes
login_trusted_networks =
auth_mechanisms = plain login
auth_failure_delay = 0
auth_cache_size = 0
first_valid_uid = 1
mail_location = maildir:{at.root}/mail/%n
mail_plugins = quota
mail_max_userip_connections = 1000
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = no
namespace inbox {{
  inbox = yes
  mailbox Junk {{
    auto = create
    special_use = \\Junk
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {at.root}/dovecot/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {at.root}/dovecot/users
  default_fields = uid={at.user} gid={at.user} home={at.root}/mail/%n
}}
plugin {{
  quota = maildir:User quota
  quota_grace = 0
}}
protocol imap {{
  mail_plugins = quota imap_quota
  {capability}
}}
default_process_limit = 2000
default_client_limit = 4000
service imap-login {{
  chroot =
  service_count = 0
  inet_listener imap {{
    port = {at.ports.imap}
  }}
  inet_listener imaps {{
    port = {at.ports.imaps}
    ssl = yes
  }}
}}
service auth {{
  unix_listener {at.queue}/private/auth {{
    mode = 0666
  }}
}}
service lmtp {{
  unix_listener {at.queue}/private/dovecot-lmtp {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


def users() -> str:
    """Return who can log in."""
    rule = {"full": "userdb_quota_rule=*:bytes=1"}
    return "".join(
        f"{name}@{DOMAIN}:{{PLAIN}}{password}::::::{rule.get(name, '')}\n"
        for name, password in PASSWORDS.items()
    )


def main_cf(at: Layout) -> str:
    """Return Postfix' main.cf."""
    access = f"check_recipient_access texthash:{at.root}/postfix"
    return f"""
compatibility_level = 3.6
queue_directory = {at.queue}
data_directory = {at.root}/data
maillog_file = {at.root}/postfix.log
maillog_file_prefixes = {at.root}
mail_owner = postfix
default_process_limit = 1000
setgid_group = postdrop
myhostname = mail.{DOMAIN}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.2/32
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_host_lookup = native
alias_maps =
alias_database =
local_recipient_maps =
recipient_delimiter = +
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = texthash:{at.root}/postfix/mailboxes
virtual_alias_maps = texthash:{at.root}/postfix/aliases
virtual_transport = lmtp:unix:private/dovecot-lmtp
header_checks = regexp:{at.root}/postfix/header_checks
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_hard_error_limit = 100
smtpd_error_sleep_time = 0
smtpd_tls_cert_file = {at.cert}
smtpd_tls_key_file = {at.key}
smtpd_tls_CAfile = {at.ca}
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_auth_enable = yes
smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access texthash:{at.root}/postfix/senders
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient, {access}/replies,
  check_policy_service inet:127.0.0.1:{at.policy_port}
smtpd_data_restrictions = {access}/data
smtpd_end_of_data_restrictions = {access}/end_of_data
default_transport = error:5.1.2 no mail leaves the test target
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
lmtp_destination_concurrency_failed_cohort_limit = 0
"""


def master_cf(at: Layout) -> str:
    """Return Postfix' master.cf."""
    ports, tls = at.ports, "-o smtpd_tls_auth_only=yes"
    return f"""
127.0.0.1:{ports.plain} inet n - n - - smtpd -o smtpd_sasl_auth_enable=no
127.0.0.1:{ports.submission} inet n - n - - smtpd {tls}
127.0.0.1:{ports.smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:{ports.client_cert} inet n - n - - smtpd {tls} -o smtpd_tls_req_ccert=yes
  -o smtpd_tls_security_level=encrypt
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def postfix_maps() -> dict[str, str]:
    """Return the look-up tables by name."""
    b = f"probe-b@{DOMAIN}"
    to_b = ("refused-rcpt", "full-rcpt", "held", "refused-data", "refused-end", "grey")
    aliases = dict.fromkeys(to_b, b)
    aliases |= {"junk": f"probe-b+Junk@{DOMAIN}", "twice": f"{b}, probe-b+twice@{DOMAIN}"}
    return {
        "mailboxes": _table(dict.fromkeys(PASSWORDS, "x")),
        "aliases": _table(aliases),
        "senders": _table({"refused-from": "550 5.7.1 not from you"}),
        "replies": _table(REPLIES),
        "data": _table({"refused-data": "554 5.7.1 not like this"}),
        "end_of_data": _table({"refused-end": "550 5.7.1 content rejected"}),
        "header_checks": f"/^Subject:(.*{REWRITTEN}.*)$/ REPLACE Subject: [SPAM?]$1\n"
        f"/^Subject:.*{LOST}/ REPLACE Subject: Warning\n",
    }


def _table(rows: dict[str, str]) -> str:
    return "".join(f"{name}@{DOMAIN} {value}\n" for name, value in rows.items())

"""Kafka clients from our settings, and Kafka's errors as ours.

Every class of ``aiokafka.errors`` has a disposition in :data:`DISPOSITIONS`: what a caller can
do about it.  A test walks the library and fails on a class that has none.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, Final

from aiokafka import errors

from pipeline.core.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    MailstreamError,
    Reason,
    RecordError,
    TransientError,
)
from pipeline.kit.settings import KafkaSettings


class Disposition(Enum):
    """What a caller can do about an error of Kafka."""

    TRANSIENT = auto()
    """Back off and call again."""
    FENCED = auto()
    """Drop the partition's state and begin anew: its transaction or membership is not ours."""
    INVARIANT = auto()
    """Stop: a call of ours made no sense, or the log lacks what it must hold."""
    RECORD = auto()
    """This record is bad."""
    CONFIG = auto()
    """An operator must change something: rights, credentials, versions, topic settings."""


_TRANSIENT: Final = (
    "KafkaError",  # aiokafka wraps what it did not expect into the bare class
    "NoBrokersAvailable",
    "NodeNotReadyError",
    "KafkaProtocolError",
    "CorrelationIdError",
    "Cancelled",
    "TooManyInFlightRequests",
    "StaleMetadata",
    "MetadataEmptyBrokerList",
    "KafkaUnavailableError",
    "KafkaTimeoutError",
    "KafkaConnectionError",
    "QuotaViolationError",
    "BrokerResponseError",
    "UnknownError",
    "CorruptRecordException",
    "InvalidMessageError",
    "UnknownTopicOrPartitionError",
    "LeaderNotAvailableError",
    "NotLeaderForPartitionError",
    "RequestTimedOutError",
    "BrokerNotAvailableError",
    "ReplicaNotAvailableError",
    "StaleControllerEpochError",
    "StaleLeaderEpochCodeError",
    "GroupLoadInProgressError",
    "CoordinatorLoadInProgressError",
    "GroupCoordinatorNotAvailableError",
    "CoordinatorNotAvailableError",
    "NotCoordinatorForGroupError",
    "NotCoordinatorError",
    "NotEnoughReplicasError",
    "NotEnoughReplicasAfterAppendError",
    "RebalanceInProgressError",
    "NotControllerError",
    "ConcurrentTransactions",
    "TransactionCoordinatorFenced",
    "OperationNotAttempted",
    "KafkaStorageError",
    "LogDirNotFound",
    "ReassignmentInProgress",
    "FetchSessionIdNotFound",
    "InvalidFetchSessionEpoch",
    "ListenerNotFound",
    "MemberIdRequired",
)
_FENCED: Final = (
    "CommitFailedError",
    "ProducerFenced",
    "IllegalGenerationError",
    "UnknownMemberIdError",
    "InvalidProducerEpoch",
    "InvalidTxnState",
    "InvalidProducerIdMapping",
    "UnknownProducerId",
)
_INVARIANT: Final = (
    "IllegalStateError",
    "IllegalArgumentError",
    "ConsumerStoppedError",
    "IllegalOperation",
    "NoOffsetForPartitionError",
    "ProducerClosed",
    "NoError",
    "OffsetOutOfRangeError",
    "InvalidFetchRequestError",
    "OffsetMetadataTooLargeError",
    "InvalidRequiredAcksError",
    "InvalidCommitOffsetSizeError",
    "TopicAlreadyExistsError",
    "InvalidRequestError",
    "OutOfOrderSequenceNumber",
    "DuplicateSequenceNumber",
    "InvalidPrincipalType",
    "NonEmptyGroup",
    "GroupIdNotFound",
    "IllegalSaslStateError",
)
_RECORD: Final = {
    "RecordTooLargeError": Reason.TOO_LARGE,
    "MessageSizeTooLargeError": Reason.TOO_LARGE,
    "RecordListTooLargeError": Reason.TOO_LARGE,
    "InvalidTimestampError": Reason.INVALID_FIELD,
}
_CONFIG: Final = (
    "UnrecognizedBrokerVersion",
    "IncompatibleBrokerVersion",
    "AuthenticationMethodNotSupported",
    "AuthenticationFailedError",
    "UnsupportedCodecError",
    "KafkaConfigurationError",
    "InvalidTopicError",
    "InconsistentGroupProtocolError",
    "InvalidGroupIdError",
    "InvalidSessionTimeoutError",
    "TopicAuthorizationFailedError",
    "GroupAuthorizationFailedError",
    "ClusterAuthorizationFailedError",
    "UnsupportedSaslMechanismError",
    "UnsupportedVersionError",
    "InvalidPartitionsError",
    "InvalidReplicationFactorError",
    "InvalidReplicationAssignmentError",
    "InvalidConfigurationError",
    "UnsupportedForMessageFormatError",
    "PolicyViolationError",
    "InvalidTransactionTimeout",
    "TransactionalIdAuthorizationFailed",
    "SecurityDisabled",
    "SaslAuthenticationFailed",
    "DelegationTokenAuthDisabled",
    "DelegationTokenNotFound",
    "DelegationTokenOwnerMismatch",
    "DelegationTokenRequestNotAllowed",
    "DelegationTokenAuthorizationFailed",
    "DelegationTokenExpired",
)

DISPOSITIONS: Final[dict[str, Disposition]] = {
    **dict.fromkeys(_TRANSIENT, Disposition.TRANSIENT),
    **dict.fromkeys(_FENCED, Disposition.FENCED),
    **dict.fromkeys(_INVARIANT, Disposition.INVARIANT),
    **dict.fromkeys(_RECORD, Disposition.RECORD),
    **dict.fromkeys(_CONFIG, Disposition.CONFIG),
}
"""Class name in ``aiokafka.errors`` to disposition; a subclass without a row has its base's."""

_FOREIGN: Final = (
    errors.KafkaError,
    errors.ConsumerStoppedError,
    errors.IllegalOperation,
    ConnectionError,
    TimeoutError,
)


def disposition(error: BaseException) -> Disposition:
    """Return what can be done about *error*, by its most specific class that has a row."""
    for cls in type(error).__mro__:
        found = DISPOSITIONS.get(cls.__name__)
        if found is not None:
            return found
    return Disposition.TRANSIENT


def core_error(error: BaseException) -> MailstreamError:
    """Return our error for one of aiokafka's (or of the connection beneath it)."""
    detail = f"Kafka: {type(error).__name__}: {_text(error)}".removesuffix(": ")
    match disposition(error):
        case Disposition.FENCED:
            return FencedError(detail)
        case Disposition.INVARIANT:
            return InvariantError(detail)
        case Disposition.RECORD:
            return RecordError(_record_reason(error), detail)
        case Disposition.CONFIG:
            return ConfigError([detail])
        case Disposition.TRANSIENT:
            return TransientError(detail)


def _text(error: BaseException) -> str:
    if isinstance(error, errors.BrokerResponseError):  # its str() begins with a number
        return ", ".join(map(str, error.args)) or getattr(error, "description", "")
    return str(error)


def _record_reason(error: BaseException) -> Reason:
    names = (cls.__name__ for cls in type(error).__mro__)
    return next(_RECORD[name] for name in names if name in _RECORD)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn Kafka's errors that leave the block into ours; all others pass as they are.

    Raises:
        TransientError: The same call may succeed later.
        FencedError: The transaction or the membership belongs to another process.
        InvariantError: The call made no sense, or the log lacks what it must hold.
        RecordError: A record is unusable, for example too large.
        ConfigError: Rights, credentials, versions or topic settings are wrong.
    """
    try:
        yield
    except _FOREIGN as exc:
        raise core_error(exc) from exc


def client_options(kafka: KafkaSettings, bootstrap: str) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes to reach *bootstrap*.

    Raises:
        ConfigError: A certificate or key cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = password and password.get_secret_value()
    return options


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
        if kafka.ssl_certfile is not None:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError([f"kafka.ssl_*: the certificates cannot be used: {exc}"]) from exc
    return context

// Texts of the warnings. `satchel top` reads what follows `default` as JSON.
export default {
  "warnings": {
    "starting": {
      "tone": "warn",
      "text": "This process is starting.",
      "todo": "It serves once the durable state was read."
    },
    "standby": {
      "tone": "warn",
      "text": "This process is on standby: another one serves the application.",
      "todo": "Ask the owner instead, or give the processes peer ports (--peer)."
    },
    "stopping": {
      "tone": "warn",
      "text": "This process is stopping.",
      "todo": ""
    },
    "held": {
      "tone": "warn",
      "text": "This is a fork that is held: no ingress is read, no timer fires, nothing leaves.",
      "todo": "Start it with --resume-io once the origin has stopped."
    },
    "endpoint_down": {
      "tone": "bad",
      "text": "Endpoint {name} is down. Messages for its functions wait.",
      "todo": "See its last failure below. Deliveries continue by themselves once it answers."
    },
    "function_suspended": {
      "tone": "bad",
      "text": "Function {name} is suspended as a whole: {reason}",
      "todo": "Deploy a version that fits the stored state. It continues by itself then."
    },
    "function_paused": {
      "tone": "warn",
      "text": "Function {name} was paused by a person{reason}",
      "todo": "Resume it when its messages should be processed.",
      "page": "addresses"
    },
    "ingress_paused": {
      "tone": "warn",
      "text": "Ingress {name} was paused by a person{reason}",
      "todo": "Resume it when it should be read.",
      "page": "connectors"
    },
    "ingress_stopped": {
      "tone": "bad",
      "text": "{source} of ingress {name} is not read: {problem}.",
      "todo": "Remove the cause, then resume the ingress. The log has the whole reason.",
      "page": "connectors"
    },
    "egress_stopped": {
      "tone": "bad",
      "text": "Egress {name} delivers nothing: {problem}.",
      "todo": "Remove the cause. The log has the whole reason.",
      "page": "connectors"
    },
    "time_ahead": {
      "tone": "warn",
      "text": "Partition time differs from the calendar by {duration}.",
      "todo": "Check the clock of the machine. Timers follow partition time."
    },
    "clock_jump": {
      "tone": "bad",
      "text": "The calendar jumped by {duration}, which is not followed.",
      "todo": "Correct the clock, or raise --clock-jump-max."
    },
    "pending_limit": {
      "tone": "bad",
      "text": "All ingress is paused: more messages wait than --pending-limit allows.",
      "todo": "It continues by itself once functions have caught up. Look for a failing endpoint."
    },
    "memory_limit": {
      "tone": "bad",
      "text": "All ingress is paused: more state is needed in memory than --memory-limit allows.",
      "todo": "Ingress continues by itself. Raise the limit if this lasts."
    },
    "dead_letter_limit": {
      "tone": "bad",
      "text": "All ingress is paused: more dead letters are kept than --dead-letter-limit allows.",
      "todo": "Retry or drop dead letters.",
      "page": "dead-letters"
    },
    "congestion": {
      "tone": "bad",
      "text": "All ingress is paused: more messages wait for other partitions than allowed.",
      "todo": "Ingress continues by itself. Look for a partition that is slow or has no owner."
    },
    "lag": {
      "tone": "warn",
      "text": "Ingress {name} is {duration} behind.",
      "todo": "If this grows, raise the concurrency of its endpoint or split the stream.",
      "page": "connectors"
    },
    "address_suspended": {
      "tone": "bad",
      "text": "{count} address of {name} is suspended after a message failed.",
      "todo": "Look at the message, then resume or skip it.",
      "page": "addresses"
    },
    "addresses_suspended": {
      "tone": "bad",
      "text": "{count} addresses of {name} are suspended after a message failed.",
      "todo": "Look at the messages, then resume or skip them.",
      "page": "addresses"
    },
    "dead_letter": {
      "tone": "warn",
      "text": "{count} dead letter is kept.",
      "todo": "Correct the cause, then retry it; or drop it.",
      "page": "dead-letters"
    },
    "dead_letters": {
      "tone": "warn",
      "text": "{count} dead letters are kept.",
      "todo": "Correct the cause, then retry them; or drop them.",
      "page": "dead-letters"
    },
    "partition_unowned": {
      "tone": "bad",
      "text": "Partition {name} has no owner.",
      "todo": "Start another process, or see the log of the processes."
    },
    "opened_without_token": {
      "tone": "dim",
      "text": "This console is read-only, because it was opened without the token of its link.",
      "todo": "Open the link that satchel dev printed to change something from here."
    },
    "read_only": {
      "tone": "dim",
      "text": "This console is read-only, because the process has no token for administration.",
      "todo": "Start it with --admin-token-file to change something from here."
    }
  },
  "problems": {
    "missing": "it does not exist",
    "forbidden": "access was denied",
    "lost": "records that were not read are gone",
    "damaged": "its data is damaged",
    "unreadable": "it cannot be read"
  }
};

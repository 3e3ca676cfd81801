//! Faults of AWS services: throttling, internal errors, and failures of the connection.

use std::time::Duration;

use crate::Fault;

/// Delay of a late answer: longer than the timeouts of clients for most services.
const LATE: Duration = Duration::from_secs(3);

/// An AWS service and the errors that it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Name of the service.
    pub name: &'static str,
    /// Environment variable that sets the endpoint in clients.
    pub variable: &'static str,
    throttled: (u16, &'static str),
    broken: (u16, &'static str),
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceFault {
    /// The service throttles the request.
    Throttled,
    /// The service fails with an internal error.
    Broken,
    /// The request is lost.
    Lost,
    /// The request takes effect; its answer is lost.
    Unanswered,
    /// The answer arrives too late.
    Late,
    /// The answer is truncated.
    Cut,
}

impl ServiceFault {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Throttled,
        Self::Broken,
        Self::Lost,
        Self::Unanswered,
        Self::Late,
        Self::Cut,
    ];
}

impl Service {
    /// The object store.
    pub const S3: Self = Self {
        name: "S3",
        variable: "AWS_ENDPOINT_URL_S3",
        throttled: (503, "SlowDown"),
        broken: (500, "InternalError"),
    };

    /// The lease table.
    pub const DYNAMODB: Self = Self {
        name: "DynamoDB",
        variable: "AWS_ENDPOINT_URL_DYNAMODB",
        throttled: (400, "ThrottlingException"),
        broken: (500, "InternalServerError"),
    };

    /// The streams.
    pub const KINESIS: Self = Self {
        name: "Kinesis",
        variable: "AWS_ENDPOINT_URL_KINESIS",
        throttled: (400, "ProvisionedThroughputExceededException"),
        broken: (500, "InternalFailure"),
    };

    /// The functions.
    pub const LAMBDA: Self = Self {
        name: "Lambda",
        variable: "AWS_ENDPOINT_URL_LAMBDA",
        throttled: (429, "TooManyRequestsException"),
        broken: (500, "ServiceException"),
    };

    /// The proxy fault that produces `fault` for a request to this service.
    pub fn fault(&self, fault: ServiceFault) -> Fault {
        match fault {
            ServiceFault::Throttled => self.answer(self.throttled),
            ServiceFault::Broken => self.answer(self.broken),
            ServiceFault::Lost => Fault::LoseRequest,
            ServiceFault::Unanswered => Fault::LoseAnswer,
            ServiceFault::Late => Fault::DelayAnswer(LATE),
            ServiceFault::Cut => Fault::CutAnswer,
        }
    }

    fn answer(&self, (status, code): (u16, &str)) -> Fault {
        if *self == Self::S3 {
            return Fault::error(status, code);
        }
        let text = format!(r#"{{"__type":"{code}","message":"injected by the test"}}"#);
        Fault::Answer(status, text)
    }
}

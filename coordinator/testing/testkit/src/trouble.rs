//! What the services of AWS say when they are asked too often and when they are broken, and how else their connections fail.

use std::time::Duration;

use crate::Fault;

/// How late an answer may be: longer than clients wait for most services.
const LATE: Duration = Duration::from_secs(3);

/// A service, with what it says when something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// The variable that tells clients where it is.
    pub variable: &'static str,
    throttled: (u16, &'static str),
    broken: (u16, &'static str),
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The service says that it is asked too often.
    Throttled,
    /// The service says that it is broken.
    Broken,
    /// The request is lost.
    Lost,
    /// The request has its effect, and the answer is lost.
    Unanswered,
    /// The answer comes too late.
    Late,
    /// The answer ends in its middle.
    Cut,
}

impl Trouble {
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

    /// The table of leases.
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

    /// The handlers.
    pub const LAMBDA: Self = Self {
        name: "Lambda",
        variable: "AWS_ENDPOINT_URL_LAMBDA",
        throttled: (429, "TooManyRequestsException"),
        broken: (500, "ServiceException"),
    };

    /// What a proxy does to a request to it, so that it meets this trouble.
    pub fn fault(&self, trouble: Trouble) -> Fault {
        match trouble {
            Trouble::Throttled => self.says(self.throttled),
            Trouble::Broken => self.says(self.broken),
            Trouble::Lost => Fault::LoseRequest,
            Trouble::Unanswered => Fault::LoseAnswer,
            Trouble::Late => Fault::DelayAnswer(LATE),
            Trouble::Cut => Fault::CutAnswer,
        }
    }

    fn says(&self, (status, code): (u16, &str)) -> Fault {
        if *self == Self::S3 {
            return Fault::error(status, code);
        }
        let text = format!(r#"{{"__type":"{code}","message":"as the test wants it"}}"#);
        Fault::Answer(status, text)
    }
}

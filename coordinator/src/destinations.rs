//! Wiring of endpoints: from a module file to invokers.

#[cfg(feature = "aws")]
mod aws;
#[cfg(not(feature = "aws"))]
mod without_aws;

use std::sync::Arc;

use crate::error::{Exit, Failure};
use crate::invoker::Invoker;
use crate::invoker::http::{ClientCertificate, HttpEndpoint, HttpInvoker};
use crate::module::{
    Application, AwsAccess, AwsCredentials, EgressAdapter, EndpointAdapter, EndpointSpec,
    HttpEndpoint as HttpModule, IngressAdapter, Source,
};
use crate::runtime::dispatch::Destination;

#[cfg(feature = "aws")]
use aws::signed;
#[cfg(not(feature = "aws"))]
use without_aws::signed;

#[cfg(feature = "aws")]
pub(crate) use aws::{AwsConfigs, lambda};
#[cfg(not(feature = "aws"))]
pub(crate) use without_aws::AwsConfigs;

/// Makes the invoker of a function server over HTTP, which signs requests if the module says so.
pub(crate) async fn http(
    endpoint: &EndpointSpec,
    http: &HttpModule,
    configs: &mut AwsConfigs,
) -> Result<Destination, Failure> {
    let source = &endpoint.source;
    let invoker = HttpInvoker::new(&adapter(http))
        .map_err(|error| Failure::caused(Exit::Usage, source, error))?;
    let invoker = match &http.auth {
        None => invoker,
        Some(auth) => signed(invoker, auth, source, configs).await?,
    };
    Ok(Destination {
        name: http.place().into(),
        invoker: Arc::new(Invoker::Http(invoker)),
    })
}

/// Checks what a start takes from the files and URLs that the module files name: certificates,
/// keys, paths of sockets, and profiles of AWS. Sends nothing. Returns all problems, each with its
/// place.
pub(crate) fn check(application: &Application) -> Vec<String> {
    let mut problems = Vec::new();
    for endpoint in &application.endpoints {
        let source = &endpoint.source;
        match &endpoint.adapter {
            EndpointAdapter::Http(http) => {
                if let Err(error) = HttpInvoker::new(&adapter(http)) {
                    problems.push(format!("{source}: {error}"));
                }
                if let Some(auth) = &http.auth {
                    problems.extend(unreadable_profile(&auth.access, source));
                }
            }
            EndpointAdapter::Lambda(lambda) => {
                problems.extend(unreadable_profile(&lambda.access, source));
            }
        }
    }
    for ingress in &application.ingresses {
        let access = match &ingress.adapter {
            IngressAdapter::Kafka(_) | IngressAdapter::Playground(_) => continue,
            IngressAdapter::Kinesis(kinesis) => &kinesis.access,
            IngressAdapter::Sqs(sqs) => &sqs.access,
        };
        problems.extend(unreadable_profile(access, &ingress.source));
    }
    for egress in &application.egresses {
        let access = match &egress.adapter {
            EgressAdapter::Kafka(_) | EgressAdapter::Playground(_) => continue,
            EgressAdapter::Kinesis(kinesis) => &kinesis.access,
            EgressAdapter::Aws(aws) => &aws.access,
        };
        problems.extend(unreadable_profile(access, &egress.source));
    }
    problems
}

/// Problem of the file of a profile, if there is one.
fn unreadable_profile(access: &AwsAccess, source: &Source) -> Option<String> {
    let AwsCredentials::Profile {
        path: Some(path), ..
    } = &access.credentials
    else {
        return None;
    };
    let error = std::fs::File::open(path).err()?;
    Some(format!("{source}: {}: {error}", path.display()))
}

fn adapter(http: &HttpModule) -> HttpEndpoint {
    let client = http.tls.client.as_ref();
    HttpEndpoint {
        call: http.call,
        connect: http.connect,
        read: http.read,
        pool_idle: http.pool_idle,
        pool_size: http.pool_size,
        payload_max_bytes: usize::try_from(http.payload_max_bytes).unwrap_or(usize::MAX),
        trust_cacerts: http.tls.trust_cacerts.clone(),
        client_cert: client.map(|client| ClientCertificate {
            certificate: client.certificate.clone(),
            key: client.key.clone(),
            password: client.password.clone(),
        }),
        ..HttpEndpoint::new(&http.url_template)
    }
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests {
    use super::*;

    fn problems(module: &str, files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("module.yaml");
        std::fs::write(&path, module).unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let application = Application::load(&[path], &|_| None).unwrap();
        let found = check(&application).into_iter();
        let shown = dir.path().display().to_string();
        found.map(|text| text.replace(&shown, "DIR")).collect()
    }

    fn endpoint(url: &str, transport: &str) -> String {
        format!(
            "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n  \
             urlPathTemplate: {url}\n  transport:\n    call: 1m\n{transport}"
        )
    }

    #[test]
    fn what_a_start_would_refuse_is_found_without_one() {
        let missing = endpoint("https://functions", "    trust_cacerts: absent.pem\n");
        let found = problems(&missing, &[]);
        assert!(
            found.len() == 1 && found[0].starts_with("DIR/module.yaml:3: DIR/absent.pem: "),
            "{found:?}"
        );

        let client = "    client_cert: cert.pem\n    client_key: key.pem\n";
        let wrong = endpoint("https://functions", client);
        let files = [("cert.pem", "not a certificate"), ("key.pem", "no key")];
        let found = problems(&wrong, &files);
        assert!(
            found.len() == 1 && found[0].contains("DIR/cert.pem is not a PEM file"),
            "{found:?}"
        );

        let socket = endpoint("http+unix://run/functions.sock/f", "");
        let found = problems(&socket, &[]);
        assert!(
            found.len() == 1 && found[0].contains("must be absolute"),
            "{found:?}"
        );

        let profile = "kind: satchel.lambda.v1/egress
spec:
  id: example/out
  functionName: out
  awsCredentials: {type: profile, profileName: other, profilePath: absent}
";
        let found = problems(profile, &[]);
        assert!(
            found.len() == 1 && found[0].contains("absent: "),
            "{found:?}"
        );

        assert_eq!(problems(&endpoint("http://functions", ""), &[]), [""; 0]);
    }
}

//! The same commands on a root in a bucket.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use satchel_testkit::Moto;

use super::tool::tool_in;

#[tokio::test]
async fn a_root_in_a_bucket_is_imported_verified_and_read() {
    let moto = Moto::start();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .region(Region::new("us-east-1"))
        .endpoint_url(moto.endpoint())
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    client.create_bucket().bucket("roots").send().await.unwrap();
    let environment = [
        ("AWS_ENDPOINT_URL", moto.endpoint()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ];
    let run = |arguments: &[&str]| tool_in("s3://roots/apps/shop", arguments, &environment);

    let result = run(&["verify"]);
    assert_eq!(result.code, 5, "{result:?}");
    assert!(
        result
            .err
            .contains("s3://roots/apps/shop holds no durable state"),
        "{result:?}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let line = r#"{"address":"a/b/c","state":"s","typename":"t","expires_at_ms":null,"value":1}"#;
    std::fs::write(file.path(), line).unwrap();
    let import = ["state", "import", file.path().to_str().unwrap()];
    let result = run(&import);
    assert_eq!(result.code, 0, "{result:?}");
    assert_eq!(run(&import).code, 4);
    let result = run(&["state", "export"]);
    assert_eq!(result.out, format!("{line}\n"), "{result:?}");
    let result = run(&["verify"]);
    assert_eq!(result.code, 0, "{result:?}");

    let log = "apps/shop/partitions/0/log/00000000000000000002";
    let damage = aws_sdk_s3::primitives::ByteStream::from_static(b"SLOG");
    let put = client.put_object().bucket("roots").key(log).body(damage);
    put.send().await.unwrap();
    let result = run(&["verify"]);
    assert_eq!(result.code, 4, "{result:?}");
    assert!(
        result.out.starts_with(&format!("{log} cannot be read: ")),
        "{result:?}"
    );
    let result = run(&["state", "export"]);
    assert_eq!((result.code, result.out.as_str()), (4, ""), "{result:?}");
    assert!(result.err.contains(log), "{result:?}");
}

use super::*;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let fixture = Fixture::new();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/greeter");
    let spec = FunctionSpec {
        dir,
        processes_max: 4,
        ..fixture.spec(Program::Cargo {
            bin: "greeter".into(),
        })
    };
    let lambda = Arc::new(LocalLambda::start(spec).await.unwrap());
    let payload = Bytes::from(
        r#"{"satchel":1,"bundle":"b1","encoding":"identity","accept":[],"batches":[]}"#,
    );
    lambda.invoke(payload.clone(), LONG).await.unwrap();
    for clients in [1usize, 8, 64] {
        let n = 2000;
        let t = std::time::Instant::now();
        let mut lat = futures::future::join_all((0..clients).map(|_| {
            let lambda = lambda.clone();
            let payload = payload.clone();
            tokio::spawn(async move {
                let mut v = vec![];
                for _ in 0..n / clients {
                    let t = std::time::Instant::now();
                    lambda.invoke(payload.clone(), LONG).await.unwrap();
                    v.push(t.elapsed().as_micros());
                }
                v
            })
        }))
        .await
        .into_iter()
        .flat_map(|v| v.unwrap())
        .collect::<Vec<_>>();
        lat.sort();
        eprintln!(
            "{clients}: {:.0}/s p50 {} p99 {} max {} procs {}",
            lat.len() as f64 / t.elapsed().as_secs_f64(),
            lat[lat.len() / 2],
            lat[lat.len() * 99 / 100],
            lat[lat.len() - 1],
            lambda.describe().processes.len()
        );
    }
    lambda.shutdown().await;
}

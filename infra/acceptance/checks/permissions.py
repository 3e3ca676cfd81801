"""Permissions: `satchel validate --check-aws` under the coordinator's own policy is content, and
names what is missing when one action at a time is denied."""

import json
import subprocess
import time

from botocore.exceptions import ClientError

# Actions that a start does not need at once, or not with this module file, so that the check does
# not try them.
LATER = {"kinesis:PutRecord", "s3:AbortMultipartUpload"}
# How a line names an action, where that is not the action's own name.
NAMES = {
    "dynamodb:GetItem": "lease table",
    "dynamodb:PutItem": "lease table",
    "lambda:InvokeFunction": "Lambda",
    "s3:DeleteObject": "removing",
    "s3:GetObject": "reading",
    "s3:ListBucket": "listing",
    "s3:PutObject": "writing",
}


def check(context):
    if context.satchel is None:
        context.figures.skip("permissions", "no binary: name it with --satchel")
        return
    sts = context.client("sts")
    status, said = validate(context, credentials(context, sts, None))
    context.figures.add(
        "permissions",
        "validate --check-aws with the coordinator's policy",
        "content" if status == 0 else said,
        expected="content",
        right=status == 0,
    )
    if context.stand_in:
        context.figures.skip("permissions", "each action denied in turn: the stand-in denies none")
        return
    for action in actions(context.made["task_policy"]):
        status, said = validate(context, credentials(context, sts, action))
        lines = [line for line in said.splitlines() if line.strip()]
        name = NAMES.get(action, action.split(":")[1])
        noticed = status != 0 and any(name in line for line in lines)
        value = f"noticed, lines: {len(lines)}" if noticed else f"not noticed: {said.strip()}"
        right = None if action in LATER else noticed
        context.figures.add("permissions", f"without {action}", value, "", "noticed", right)


def actions(policy):
    """All actions that a policy grants, each once."""
    statements = json.loads(policy)["Statement"]
    return sorted({action for statement in statements for action in statement["Action"]})


def credentials(context, sts, denied):
    """Credentials of the probe, which has the coordinator's policy, without one action."""
    statements = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    if denied is not None:
        statements.append({"Effect": "Deny", "Action": denied, "Resource": "*"})
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    until = time.monotonic() + 60
    while True:
        try:
            return sts.assume_role(
                RoleArn=context.made["probe_role"],
                RoleSessionName="acceptance",
                DurationSeconds=900,
                Policy=policy,
            )["Credentials"]
        except ClientError as error:
            # A role that was made a moment ago is not known everywhere yet.
            if error.response["Error"]["Code"] != "AccessDenied" or time.monotonic() > until:
                raise
            time.sleep(3)


def validate(context, given):
    """Exit code of the check, and what it says is missing."""
    # It makes a few dozen requests.
    context.budget.charge("satchel validate", 0.0005)
    made = context.made
    environment = {
        **context.environment,
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }
    command = [
        context.satchel,
        "validate",
        context.module_file,
        "--check-aws",
        "--application",
        made["application"],
        "--state",
        f"s3://{made['bucket']}/{made['application']}",
        "--lease-table",
        made["lease_table"],
    ]
    if context.stand_in:
        command.append("--s3-path-style")
    else:
        # A stand-in may take the record without a key that is put into this stream.
        command += ["--egress-stream", made["stream"]]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return 124, "it took longer than 120 s"
    return done.returncode, done.stderr

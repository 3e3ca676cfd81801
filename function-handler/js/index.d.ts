import { StateFun as SdkStateFun } from "apache-flink-statefun";

export * from "apache-flink-statefun";

/** StateFun's `StateFun`, with the reasons of errors kept for bundles. */
export class StateFun extends SdkStateFun {}

/**
 * Rejection of a message for good: the mistake lies in the message, so no retry can succeed.
 *
 * The message changes no state, has no effects and is not retried. A caller that waits for a reply
 * gets `code` as the HTTP status, and `message`. Without such a caller, the message becomes a dead
 * letter. Any other error is retried. An error with a terminal error as its `cause` is one too.
 */
export class TerminalError extends Error {
  constructor(code: number, message: string, options?: { cause?: unknown });
  /** HTTP status for a caller that waits: 400 to 499, or 500. */
  readonly code: number;
}

/** A Lambda request that is neither a bundle of a known version nor an HTTP request. */
export class InvalidRequest extends Error {}

/** The part of Lambda's context that the handler uses. */
export interface LambdaContext {
  getRemainingTimeInMillis?(): number;
}

/**
 * Returns the Lambda handler of the functions.
 *
 * It answers bundles of a Satchel coordinator, and StateFun's plain requests through API Gateway or
 * a Function URL. Batches of a bundle run concurrently, where their functions wait. Messages of one
 * address never run concurrently.
 */
export function lambdaHandler(
  statefun: SdkStateFun,
): (event: unknown, context?: LambdaContext) => Promise<object>;

/**
 * The client of NATS, all of it, in one module that is loaded where it is asked for: it is an optional
 * dependency.
 */
export * as jetstream from '@nats-io/jetstream';
export * as transport from '@nats-io/transport-node';

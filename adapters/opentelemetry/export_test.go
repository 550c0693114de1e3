package opentelemetry

var Rejected = rejected

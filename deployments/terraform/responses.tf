# What API Gateway answers itself: problem documents of constants and ids, as adapters/localgateway answers them, and
# preflights. A test keeps both equal.

locals {
  # A gateway response has one fixed value for a header.
  cors_origin = length(var.cors_origins) > 1 ? "*" : join("", var.cors_origins)
  cors_headers = local.cors_origin == "" ? {} : {
    Access-Control-Allow-Origin   = local.cors_origin
    Access-Control-Expose-Headers = "Location, Retry-After, WWW-Authenticate, x-amzn-RequestId"
  }

  problems = jsondecode(file("${path.module}/gateway-responses.json"))
  gateway_responses = merge([for problem in local.problems : { for type in problem.types : type => {
    body = problem.body
    headers = merge(problem.headers, local.cors_headers, {
      Content-Type           = "application/problem+json"
      Cache-Control          = "no-store"
      X-Content-Type-Options = "nosniff"
    })
  } }]...)

  # The methods of each path, sorted.
  preflights = { for node, methods in { for route in local.routes : route.node => route.method... } : node => merge(local.cors_headers, {
    Access-Control-Allow-Methods = join(",", sort(methods))
    Access-Control-Allow-Headers = "Authorization,Content-Type,Idempotency-Key,Traceparent"
    Access-Control-Max-Age       = "600"
  }) if local.cors_origin != "" }
}

resource "aws_api_gateway_gateway_response" "response" {
  for_each = local.gateway_responses

  rest_api_id         = aws_api_gateway_rest_api.jobs.id
  response_type       = each.key
  status_code         = tostring(each.value.body.status)
  response_templates  = { "application/json" = jsonencode(each.value.body) }
  response_parameters = { for name, value in each.value.headers : "gatewayresponse.header.${name}" => "'${value}'" }
}

# A preflight bears no token: it is answered without the authorizer, and without a function.

resource "aws_api_gateway_method" "preflight" {
  for_each = local.preflights

  rest_api_id   = aws_api_gateway_rest_api.jobs.id
  resource_id   = local.resource_ids[each.key]
  http_method   = "OPTIONS"
  authorization = "NONE"
}

resource "aws_api_gateway_integration" "preflight" {
  for_each = local.preflights

  rest_api_id          = aws_api_gateway_rest_api.jobs.id
  resource_id          = local.resource_ids[each.key]
  http_method          = aws_api_gateway_method.preflight[each.key].http_method
  type                 = "MOCK"
  passthrough_behavior = "WHEN_NO_MATCH"
  request_templates    = { "application/json" = jsonencode({ statusCode = 204 }) }
}

resource "aws_api_gateway_method_response" "preflight" {
  for_each = local.preflights

  rest_api_id         = aws_api_gateway_rest_api.jobs.id
  resource_id         = local.resource_ids[each.key]
  http_method         = aws_api_gateway_method.preflight[each.key].http_method
  status_code         = "204"
  response_parameters = { for name, value in each.value : "method.response.header.${name}" => true }
}

resource "aws_api_gateway_integration_response" "preflight" {
  for_each = local.preflights

  rest_api_id         = aws_api_gateway_rest_api.jobs.id
  resource_id         = local.resource_ids[each.key]
  http_method         = aws_api_gateway_method.preflight[each.key].http_method
  status_code         = aws_api_gateway_method_response.preflight[each.key].status_code
  response_parameters = { for name, value in each.value : "method.response.header.${name}" => "'${value}'" }

  depends_on = [aws_api_gateway_integration.preflight]
}

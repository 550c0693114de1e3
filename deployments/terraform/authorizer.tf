# The gate. A REST API keeps the authorizer's policy and evaluates it anew for each method, so that its cache key is the
# token alone.

locals {
  authorizer = {
    type            = var.authorizer_type
    ttl             = var.authorizer_ttl
    identity_source = "method.request.header.Authorization"
    # What cannot be a bearer token is refused without a call (RFC 6750 §2.1). Only TOKEN authorizers have it.
    validation = var.authorizer_type == "TOKEN" ? "^[Bb][Ee][Aa][Rr][Ee][Rr] +[-A-Za-z0-9._~+/=]+$" : null
  }
}

resource "aws_api_gateway_authorizer" "auth" {
  name                             = "auth"
  rest_api_id                      = aws_api_gateway_rest_api.jobs.id
  authorizer_uri                   = aws_lambda_function.function["auth"].invoke_arn
  type                             = local.authorizer.type
  identity_source                  = local.authorizer.identity_source
  identity_validation_expression   = local.authorizer.validation
  authorizer_result_ttl_in_seconds = local.authorizer.ttl
}

resource "aws_lambda_permission" "authorizer" {
  statement_id  = "authorizer"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function["auth"].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.jobs.execution_arn}/authorizers/${aws_api_gateway_authorizer.auth.id}"
}

# Once a minute: what has become due is dispatched, what got lost is dispatched again, what has expired is removed.

resource "aws_cloudwatch_event_rule" "tick" {
  name                = "${var.name}-tick"
  description         = "Has ${local.function_names.jobs} make a pass of its due loop"
  schedule_expression = "rate(1 minute)"
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "tick" {
  rule      = aws_cloudwatch_event_rule.tick.name
  target_id = "jobs"
  arn       = aws_lambda_function.function["jobs"].arn

  depends_on = [aws_lambda_permission.tick]
}

resource "aws_lambda_permission" "tick" {
  statement_id  = "tick"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function["jobs"].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.tick.arn
}

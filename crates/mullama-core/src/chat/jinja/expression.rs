//! Expressions of a template, from its tokens, with the precedence that Jinja2 gives its operators.

use std::rc::Rc;

use super::ast::{Argument, Arguments, Comparison, Expr, Node, Operator, Step, StepKind};
use super::error::Result;
use super::lexer::TokenKind;
use super::parser::Parser;
use super::value::{Text, Value};

impl Parser {
    /// An expression.
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.nested(Self::conditional)
    }

    /// One expression, or a tuple of several without parentheses, up to one of these names.
    pub(super) fn tuple(&mut self, with_conditional: bool, ends: &[&str]) -> Result<Expr> {
        let line = self.line();
        let part = |parser: &mut Self| {
            if with_conditional { parser.expression() } else { parser.nested(Self::or) }
        };
        let first = part(self)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_operator(",") {
            let ended = match self.peek() {
                None | Some(TokenKind::PrintEnd | TokenKind::BlockEnd | TokenKind::Operator(")")) => true,
                Some(TokenKind::Name(name)) => ends.contains(&name.as_str()),
                _ => false,
            };
            if ended {
                break;
            }
            parts.push(part(self)?);
        }
        Ok(Expr { line, node: Node::Tuple(parts) })
    }

    fn conditional(&mut self) -> Result<Expr> {
        let line = self.line();
        let value = self.or()?;
        if !self.skip_name("if") {
            return Ok(value);
        }
        let condition = self.or()?;
        let other = if self.skip_name("else") { Some(Box::new(self.expression()?)) } else { None };
        Ok(Expr { line, node: Node::If(Box::new((value, condition)), other) })
    }

    /// Parts that are joined by a name such as `or`.
    fn joined(
        &mut self,
        part: impl Fn(&mut Self) -> Result<Expr>,
        skip: impl Fn(&mut Self) -> bool,
        node: impl Fn(Vec<Expr>) -> Node,
    ) -> Result<Expr> {
        let line = self.line();
        let first = part(self)?;
        if !skip(self) {
            return Ok(first);
        }
        let mut parts = vec![first, part(self)?];
        while skip(self) {
            parts.push(part(self)?);
        }
        Ok(Expr { line, node: node(parts) })
    }

    fn or(&mut self) -> Result<Expr> {
        self.joined(Self::and, |parser| parser.skip_name("or"), Node::Or)
    }

    fn and(&mut self) -> Result<Expr> {
        self.joined(Self::not, |parser| parser.skip_name("and"), Node::And)
    }

    fn not(&mut self) -> Result<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let value = self.nested(Self::not)?;
            return Ok(Expr { line, node: Node::Not(Box::new(value)) });
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut comparisons = Vec::new();
        loop {
            let comparison = match self.peek() {
                Some(TokenKind::Operator("==")) => Comparison::Equal,
                Some(TokenKind::Operator("!=")) => Comparison::NotEqual,
                Some(TokenKind::Operator("<")) => Comparison::Less,
                Some(TokenKind::Operator("<=")) => Comparison::LessOrEqual,
                Some(TokenKind::Operator(">")) => Comparison::Greater,
                Some(TokenKind::Operator(">=")) => Comparison::GreaterOrEqual,
                Some(TokenKind::Name(name)) if name == "in" => Comparison::In,
                Some(TokenKind::Name(name)) if name == "not" && self.next_is_in() => {
                    self.advance();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.advance();
            comparisons.push((comparison, self.sum()?));
        }
        if comparisons.is_empty() {
            return Ok(first);
        }
        Ok(Expr { line, node: Node::Compare(Box::new(first), comparisons) })
    }

    /// Operators of one precedence in a row.
    fn binary(
        &mut self,
        part: impl Fn(&mut Self) -> Result<Expr>,
        operators: &[(&'static str, Operator)],
    ) -> Result<Expr> {
        let line = self.line();
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.is_operator(sign)) {
            self.advance();
            rest.push((operator, part(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr { line, node: Node::Binary(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.binary(Self::concat, &[("+", Operator::Add), ("-", Operator::Subtract)])
    }

    fn concat(&mut self) -> Result<Expr> {
        self.joined(Self::product, |parser| parser.skip_operator("~"), Node::Concat)
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Modulo),
        ];
        self.binary(Self::power, &operators)
    }

    fn power(&mut self) -> Result<Expr> {
        self.binary(|parser| parser.unary(true), &[("**", Operator::Power)])
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let line = self.line();
        let signed: Option<fn(Box<Expr>) -> Node> = if self.skip_operator("-") {
            Some(Node::Negative)
        } else if self.skip_operator("+") {
            Some(Node::Positive)
        } else {
            None
        };
        let value = match signed {
            Some(node) => {
                let value = self.nested(|parser| parser.unary(false))?;
                Expr { line, node: node(Box::new(value)) }
            }
            None => self.primary()?,
        };
        let mut steps = Vec::new();
        if signed.is_none() {
            self.postfix(&mut steps)?;
        }
        if with_filters {
            self.filter_steps(&mut steps)?;
        }
        if steps.is_empty() {
            return Ok(value);
        }
        Ok(Expr { line, node: Node::Postfix(Box::new(value), steps) })
    }

    /// `.name`, `[…]` and `(…)`.
    fn postfix(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        loop {
            let line = self.line();
            let kind = if self.skip_operator(".") {
                if let Some(TokenKind::Int(index)) = self.peek() {
                    let node = Node::Const(Value::Int(*index));
                    self.advance();
                    StepKind::Item(Expr { line, node })
                } else {
                    StepKind::Attribute(self.name()?)
                }
            } else if self.skip_operator("[") {
                self.nested(|parser| parser.subscript(line))?
            } else if self.is_operator("(") {
                StepKind::Call(self.arguments()?)
            } else {
                return Ok(());
            };
            steps.push(Step { line, kind });
        }
    }

    /// `| filter` and `is test`, and calls of what they give.
    fn filter_steps(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        loop {
            if self.is_operator("|") {
                steps.append(&mut self.filters(false)?);
            } else if self.is_name("is") {
                let line = self.line();
                self.advance();
                let kind = self.test()?;
                steps.push(Step { line, kind });
            } else if self.is_operator("(") {
                let line = self.line();
                let kind = StepKind::Call(self.arguments()?);
                steps.push(Step { line, kind });
            } else {
                return Ok(());
            }
        }
    }

    /// Filters, each behind a `|`; the first may stand without.
    pub(super) fn filters(&mut self, first_is_bare: bool) -> Result<Vec<Step>> {
        let mut filters = Vec::new();
        while (first_is_bare && filters.is_empty()) || self.skip_operator("|") {
            let line = self.line();
            let name = self.dotted_name()?;
            let arguments = if self.is_operator("(") { self.arguments()? } else { Arguments::default() };
            filters.push(Step { line, kind: StepKind::Filter(name, arguments) });
        }
        Ok(filters)
    }

    fn dotted_name(&mut self) -> Result<Rc<str>> {
        let mut name = self.name()?;
        while self.skip_operator(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    fn test(&mut self) -> Result<StepKind> {
        let negated = self.skip_name("not");
        let name = if self.skip_name("in") { "in".into() } else { self.dotted_name()? };
        let arguments = match self.peek() {
            Some(TokenKind::Operator("(")) => self.arguments()?,
            Some(TokenKind::Name(name)) if matches!(name.as_str(), "else" | "or" | "and" | "if" | "not" | "in") => {
                Arguments::default()
            }
            Some(TokenKind::Name(name)) if name == "is" => return self.error("tests cannot be chained with \"is\""),
            Some(
                TokenKind::Name(_)
                | TokenKind::Text(_)
                | TokenKind::Int(_)
                | TokenKind::Float(_)
                | TokenKind::Operator("[" | "{"),
            ) => {
                let line = self.line();
                let value = self.nested(Self::primary)?;
                let mut steps = Vec::new();
                self.postfix(&mut steps)?;
                let value =
                    if steps.is_empty() { value } else { Expr { line, node: Node::Postfix(Box::new(value), steps) } };
                Arguments(vec![Argument::Positional(value)])
            }
            _ => Arguments::default(),
        };
        Ok(StepKind::Test { name, arguments, negated })
    }

    /// What stands in brackets behind a value, up to the bracket's end.
    fn subscript(&mut self, line: u32) -> Result<StepKind> {
        let first = if self.is_operator(":") { None } else { Some(self.expression()?) };
        if self.is_operator(":") {
            let mut parts = [first, None, None];
            for part in &mut parts[1..] {
                if self.skip_operator(":") && !self.is_operator(":") && !self.is_operator("]") {
                    *part = Some(self.expression()?);
                }
            }
            self.expect_operator("]")?;
            return Ok(StepKind::Slice(Box::new(parts)));
        }
        let mut keys: Vec<Expr> = first.into_iter().collect();
        let mut is_tuple = false;
        while self.skip_operator(",") {
            is_tuple = true;
            if !self.is_operator("]") {
                keys.push(self.expression()?);
            }
        }
        self.expect_operator("]")?;
        match keys.pop() {
            Some(key) if !is_tuple => Ok(StepKind::Item(key)),
            Some(key) => {
                keys.push(key);
                Ok(StepKind::Item(Expr { line, node: Node::Tuple(keys) }))
            }
            None => self.error("expected an index"),
        }
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect_operator("(")?;
        let mut arguments = Vec::new();
        while !self.skip_operator(")") {
            if !arguments.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            arguments.push(if self.skip_operator("**") {
                Argument::AllNamed(self.expression()?)
            } else if self.skip_operator("*") {
                Argument::All(self.expression()?)
            } else if self.next_is_assignment() {
                let name = self.name()?;
                self.expect_operator("=")?;
                Argument::Named(name, self.expression()?)
            } else {
                Argument::Positional(self.expression()?)
            });
        }
        let first_named = arguments.iter().position(|argument| !matches!(argument, Argument::Positional(_)));
        let last_positional = arguments.iter().rposition(|argument| matches!(argument, Argument::Positional(_)));
        if first_named.zip(last_positional).is_some_and(|(named, positional)| named < positional) {
            return self.error("a positional argument follows a keyword argument");
        }
        Ok(Arguments(arguments))
    }

    fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        let node = match self.peek() {
            Some(TokenKind::Name(_)) => self.name_or_constant()?,
            Some(TokenKind::Text(_)) => {
                let mut text = String::new();
                while let Some(TokenKind::Text(part)) = self.peek() {
                    text.push_str(part);
                    self.advance();
                }
                Node::Const(Value::Text(Text::new(&self.meter, &text)?))
            }
            Some(TokenKind::Int(number)) => {
                let node = Node::Const(Value::Int(*number));
                self.advance();
                node
            }
            Some(TokenKind::Float(number)) => {
                let node = Node::Const(Value::Float(*number));
                self.advance();
                node
            }
            Some(TokenKind::Operator("(")) => {
                self.advance();
                if self.skip_operator(")") {
                    Node::Tuple(Vec::new())
                } else {
                    let inner = self.tuple(true, &[])?;
                    self.expect_operator(")")?;
                    return Ok(inner);
                }
            }
            Some(TokenKind::Operator("[")) => Node::List(self.items("[", "]", Self::expression)?),
            Some(TokenKind::Operator("{")) => Node::Dict(self.items("{", "}", |parser| {
                let key = parser.expression()?;
                parser.expect_operator(":")?;
                Ok((key, parser.expression()?))
            })?),
            Some(_) => return self.error("expected an expression"),
            None => return self.error("the template ends inside an expression"),
        };
        Ok(Expr { line, node })
    }

    fn name_or_constant(&mut self) -> Result<Node> {
        let name = self.name()?;
        Ok(match &*name {
            "true" | "True" => Node::Const(Value::Bool(true)),
            "false" | "False" => Node::Const(Value::Bool(false)),
            "none" | "None" => Node::Const(Value::None),
            special => {
                match special {
                    "varargs" => self.reads.varargs = true,
                    "kwargs" => self.reads.kwargs = true,
                    "caller" => self.reads.caller = true,
                    _ => {}
                }
                Node::Name(name)
            }
        })
    }

    fn items<T>(
        &mut self,
        open: &'static str,
        close: &'static str,
        item: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect_operator(open)?;
        let mut items = Vec::new();
        while !self.skip_operator(close) {
            if !items.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}

# install.mk: what a distribution needs. DESTDIR and PREFIX as usual.
.PHONY: install
install: $(PROGRAM) $(BUILD)/libassay.a man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/assay
	install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/assay
	install -m 644 $(BUILD)/libassay.a $(DESTDIR)$(PREFIX)/lib/libassay.a
	install -m 644 include/assay/*.h $(DESTDIR)$(PREFIX)/include/assay/
	sed -e 's,@PREFIX@,$(PREFIX),; s,@VERSION@,$(VERSION),; s,@PKGS@,$(PKGS),' tools/assay.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/assay.pc
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 644 $(BUILD)/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	$(PROGRAM) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/assay
.PHONY: man
man: $(PROGRAM)
	mkdir -p $(BUILD)/man && $(PROGRAM) help --man $(BUILD)/man
